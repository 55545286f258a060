package bus

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"richwall/compile/ir"
	"richwall/internal/bus/networkmanager"
	"richwall/internal/daemon"
	"richwall/internal/kernel"
)

// silence sets the flag of a message that says that its sender wants no answer.
func silence(data []byte) []byte {
	data[2] |= byte(dbus.FlagNoReplyExpected)
	return data
}

// await asks the bus for something and returns when that is answered: what was sent before has been passed on. It returns what
// was answered before that.
func (s *stranger) await() (before []*dbus.Message) {
	s.Helper()
	s.send(frameOf(message(busDriver, "/org/freedesktop/DBus", busDriver+".GetId"), 999))
	for {
		reply := s.receive()
		if reply.Headers[dbus.FieldReplySerial].Value() == uint32(999) {
			return before
		}
		before = append(before, reply)
	}
}

// Two calls with one serial, whose sender wants no answers, are two calls. The daemon lives, and keeps nothing of them.
func TestOneSerialForTwoCalls(t *testing.T) {
	b := newBed(t, nil)
	s := newStranger(t, b.address, false)
	call := silence(frameOf(message(base, root, base+".zone.getZones"), 7))
	for range 500 {
		s.send(append(append([]byte{}, call...), call...))
	}
	s.await()
	b.must("", "zone.getZones")
	b.idle()
}

// idle fails unless no call is kept, after some time.
func (b *bed) idle() {
	b.Helper()
	q := b.server.line.Load().queue
	for ended := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		q.mu.Lock()
		kept := fmt.Sprint(len(q.clients), len(q.users), q.others)
		q.mu.Unlock()
		if kept == "0 0 {0 0}" {
			return
		}
		if time.Now().After(ended) {
			b.Fatalf("clients, users and calls are kept: %s", kept)
		}
	}
}

// Descriptors that come with messages reach no daemon: the bus refuses the messages, also after the bus was started anew.
func TestNoDescriptorsComeIn(t *testing.T) {
	b := &bed{T: t, dir: t.TempDir()}
	dir := t.TempDir()
	for _, d := range []string{dir, dir + "/.."} {
		os.Chmod(d, 0o755) // another user connects, too
	}
	b.address = "unix:path=" + dir + "/bus"
	end := startBusIn(t, dir, busConfig)
	b.start(nil)
	b.sendDescriptors()
	former := b.server.line.Load()
	end()
	startBusIn(t, dir, busConfig)
	for ended := time.Now().Add(30 * time.Second); b.server.line.Load() == former; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(ended) {
			t.Fatal("the daemon did not come back")
		}
	}
	b.client = connect(t, b.address)
	b.sendDescriptors()
}

// sendDescriptors sends 2,000 calls with 16 descriptors each.
func (b *bed) sendDescriptors() {
	b.Helper()
	null, err := os.Open(os.DevNull)
	if err != nil {
		b.Fatal(err)
	}
	defer null.Close()
	s := newStranger(b.T, b.address, true)
	files := make([]int, 16)
	for i := range files {
		files[i] = int(null.Fd())
	}
	b.must("", "zone.getZones")
	before := descriptors(b.T)
	for i := range 2000 {
		h := newHostile(uint64(i), base)
		build := &builder{hostile: h, order: binary.LittleEndian}
		build.data, build.sig = []byte{4, 0, 0, 0, 0, 0, 0, 0}, "ah" // a list of one, the first
		s.send(h.callWith(build, aMember{root, base + ".zone", "getZones", "ah"}, len(files)), files...)
	}
	s.await()
	b.must("", "zone.getZones")
	if after := descriptors(b.T); after > before {
		b.Errorf("the daemon has %d descriptors, and had %d", after, before)
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// hanging is a program with a name on the bus that takes calls and answers none until it is released. Its unique name comes
// from its connection.
func hanging(t *testing.T, b *bed, name string) (conn *dbus.Conn, called chan *dbus.Message) {
	t.Helper()
	called = make(chan *dbus.Message, 100000)
	conn = connect(t, b.address)
	conn.Eavesdrop(called)
	if err := conn.BusObject().Call(busDriver+".RequestName", dbus.FlagNoReplyExpected, name, uint32(4)).Err; err != nil {
		t.Fatal(err)
	}
	for msg := range called {
		if msg.Type == dbus.TypeMethodReply { // it has the name
			return conn, called
		}
	}
	return nil, nil
}

// While polkit does not answer, a client's calls are kept up to a bound, and those beyond it are refused at once. The
// memory for them is bounded, too; and root waits for nothing.
func TestCallsWhilePolkitHangs(t *testing.T) {
	b := newBed(t, nil)
	polkit, called := hanging(t, b, polkitName)
	big := frameOf(message(base, root, base+".zone.addRichRule", "public", strings.Repeat("x", 60000), 0), 7)
	before := heap()
	var all []*stranger
	for range 20 {
		s := newStranger(t, b.address, false)
		all = append(all, s)
		for range 300 {
			s.send(silence(big))
		}
		s.await()
	}
	if grown := heap() - before; grown > 40<<20 {
		t.Errorf("%d MB are kept of the calls", grown>>20)
	}
	all[0].send(frameOf(message(base, root, base+".zone.addRichRule", "public", strings.Repeat("x", 60000), 0), 8))
	if reply := all[0].receive(); reply.Headers[dbus.FieldErrorName].Value() != limitsExceeded {
		t.Errorf("a call too many is answered with %v", reply)
	}
	b.must("", "zone.getZones")
	if asked := questions(called); asked > questionsOfUser {
		t.Errorf("polkit was asked %d times about one user at a time", asked)
	}
	polkit.Close()
	b.idle()
}

// questions is how often polkit was called.
func questions(called chan *dbus.Message) (n int) {
	for {
		select {
		case msg := <-called:
			if msg.Type == dbus.TypeMethodCall {
				n++
			}
		default:
			return n
		}
	}
}

// heap is the bytes in use.
func heap() int {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int(stats.HeapAlloc)
}

// Whatever polkit and NetworkManager do, and although calls of strangers wait for them, root switches panic mode on and off,
// and sees the state and the zones, within 2 s.
func TestRootWaitsForNobody(t *testing.T) {
	b := newBed(t, nil)
	hanging(t, b, polkitName)
	hanging(t, b, networkmanager.Name)
	s := newStranger(t, b.address, false)
	for i := range uint32(1000) {
		s.send(frameOf(message(base, root, base+".enablePanicMode"), i+1))
		s.send(frameOf(message(base, root, introspectableName+".Introspect"), i+1))
	}
	reloading := connect(t, b.address)
	reloading.Object(base, root).Go(base+".reload", 0, make(chan *dbus.Call, 1)) // waits for NetworkManager
	for _, call := range []struct {
		name string
		args []any
	}{
		{"enablePanicMode", nil}, {"queryPanicMode", nil}, {"disablePanicMode", nil}, {propertiesName + ".Get", []any{base, "state"}},
		{"zone.getZones", nil}, {"zone.addService", []any{"public", "http", 0}}, {introspectableName + ".Introspect", nil},
	} {
		start := time.Now()
		b.must("", call.name, call.args...)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("%s takes %v", call.name, took)
		}
	}
}

// trusting is a polkit that lets everybody do everything.
type trusting struct{}

func (trusting) CheckAuthorization(polkitSubject, string, map[string]string, uint32, string) (polkitResult, *dbus.Error) {
	return polkitResult{Authorized: true}, nil
}

// hungManager is a NetworkManager that does not answer from a time on, however long it is waited for.
type hungManager struct {
	asked   chan struct{} // has something in it for each question
	hang    atomic.Bool
	release chan struct{} // closed when it answers again
}

// Zones implements daemon.Manager.
func (m *hungManager) Zones(context.Context) (map[string]string, error) {
	if m.hang.Load() {
		m.asked <- struct{}{}
		<-m.release
	}
	return nil, nil
}

// SetZone implements daemon.Manager.
func (m *hungManager) SetZone(context.Context, string, string) error { return nil }

// One user who is allowed to do so, but is not root, calls for reloads that hang, as many as he can. Another one's calls are
// answered all the same, changes too; and so are the first one's own about panic mode.
func TestUsersDoNotWaitForAReloadThatHangs(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another user")
	}
	m := &hungManager{asked: make(chan struct{}, 100), release: make(chan struct{})}
	b := &bed{T: t, dir: t.TempDir(), address: startBus(t, busConfig)}
	b.tune = func(o *daemon.Options) { o.Manager = m }
	b.start(nil)
	b.startPolkit(trusting{})
	m.hang.Store(true)
	t.Cleanup(func() { close(m.release) })
	for range changesOfUser + 2 {
		connectAs(t, b.address, nobody).Object(base, root).Go(base+".reload", 0, make(chan *dbus.Call, 1))
	}
	<-m.asked
	const other = 1 // daemon, by its name: the bus lets in only users whom the machine knows
	for _, call := range []struct {
		uid  int
		name string
		args []any
	}{
		{other, "zone.getZones", nil}, {other, propertiesName + ".Get", []any{base, "state"}},
		{other, "zone.addPort", []any{"public", "8080", "tcp", 0}},
		{nobody, "zone.getZones", nil}, {nobody, "enablePanicMode", nil}, {nobody, "queryPanicMode", nil},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		name := call.name
		if !strings.HasPrefix(name, "org.") {
			name = base + "." + name
		}
		if err := connectAs(t, b.address, call.uid).Object(base, root).CallWithContext(ctx, name, 0, call.args...).Err; err != nil {
			t.Errorf("user %d calls %s beside a reload that hangs: %v", call.uid, call.name, err)
		}
		cancel()
	}
	for len(m.asked) < changesOfUser-1 { // all that he may have going begin at some time
		time.Sleep(10 * time.Millisecond)
	}
	if len(m.asked) > changesOfUser-1 {
		t.Errorf("%d reloads of one user go on at a time", len(m.asked)+1)
	}
}

// Before the firewall has started, root can ask for its state, and is not kept waiting.
func TestStateBeforeTheStart(t *testing.T) {
	b := &bed{T: t, address: startBus(t, busConfig)}
	server, err := Connect(b.address, discard())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { server.Close() })
	b.client = connect(t, b.address)
	if got := b.must("", propertiesName+".Get", base, "state"); got != `<"INIT">` {
		t.Errorf("the state is %s", got)
	}
}

// While the firewall starts, and whatever holds that up, panic mode can be switched on, by whoever may do that, and it is told
// that it is on, and what there is to say of it besides. All other calls wait for the start, switching it off among them.
func TestPanicModeDuringTheStart(t *testing.T) {
	b := &bed{T: t, dir: t.TempDir(), address: startBus(t, busConfig)}
	starting, release, started := make(chan struct{}), make(chan struct{}), make(chan struct{})
	dropped := make(chan bool, 10)
	b.tune = func(o *daemon.Options) {
		open := o.Kernel
		o.Kernel = func(backend ir.Backend) (kernel.Kernel, error) {
			close(starting)
			<-release
			return open(backend)
		}
		o.DropAll = func(on bool) error {
			dropped <- on
			return nil
		}
	}
	go func() {
		defer close(started)
		b.start(nil)
	}()
	<-starting
	client := connect(t, b.address)
	call := func(name string) *dbus.Call {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		return client.Object(base, root).CallWithContext(ctx, base+"."+name, 0)
	}
	other := connect(t, b.address).Object(base, root).Go(base+".zone.getZones", 0, make(chan *dbus.Call, 1))
	if off := call("queryPanicMode"); off.Err != nil || off.Body[0] != false {
		t.Errorf("before, panic mode is %v, %v", off.Body, off.Err)
	}
	if err := call("enablePanicMode").Err; err != nil {
		t.Errorf("panic mode during the start: %v", err)
	} else if on := <-dropped; !on {
		t.Error("panic mode lets packets pass")
	}
	if on := call("queryPanicMode"); on.Err != nil || on.Body[0] != true {
		t.Errorf("after that panic mode is %v, %v", on.Body, on.Err)
	}
	if err := call("enablePanicMode").Err; err == nil || !strings.Contains(err.Error(), "ALREADY_ENABLED") {
		t.Errorf("panic mode that is on comes on again: %v", err)
	}
	for _, name := range []string{"richwall.getHints", "richwall.getRemarks"} { // firewall-cmd asks for them behind each call
		if told := call(name); told.Err != nil {
			t.Errorf("%s during the start: %v", name, told.Err)
		}
	}
	select {
	case <-other.Done:
		t.Errorf("before the start has ended getZones is answered with %v, %v", other.Body, other.Err)
	default:
	}
	close(release)
	<-started
	if (<-other.Done).Err != nil {
		t.Error(other.Err)
	}
}

// An answer counts only if it is from whom the daemon has asked: a stranger who guesses the number of the question to polkit
// gets no rights by that, nor by saying who he is to the question about that.
func TestAnswersOfStrangersAreNotTaken(t *testing.T) {
	b := newBed(t, nil)
	polkit, called := hanging(t, b, polkitName)
	s := newStranger(t, b.address, false)
	s.send(frameOf(message(base, root, base+".zone.addService", "public", "ftp", int32(0)), 7))
	question := <-called
	type result struct {
		Authorized, Challenge bool
		Details               map[string]string
	}
	ours := b.server.line.Load().name()
	for serial := range uint32(300) {
		for _, body := range []any{result{Authorized: true}, superuser, true} {
			reply := &dbus.Message{Type: dbus.TypeMethodReply, Body: []any{body}, Headers: map[dbus.HeaderField]dbus.Variant{
				dbus.FieldDestination: dbus.MakeVariant(ours), dbus.FieldReplySerial: dbus.MakeVariant(serial + 1),
				dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(body)),
			}}
			s.send(frameOf(reply, serial+1))
		}
	}
	answers := s.await()
	polkit.Send(&dbus.Message{Type: dbus.TypeMethodReply, Body: []any{result{}}, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldDestination: dbus.MakeVariant(ours), dbus.FieldReplySerial: dbus.MakeVariant(question.Serial()),
		dbus.FieldSignature: dbus.MakeVariant(dbus.SignatureOf(result{})),
	}}, make(chan *dbus.Call, 1))
	if len(answers) == 0 {
		answers = []*dbus.Message{s.receive()}
	}
	if answers[0].Headers[dbus.FieldErrorName].Value() != notAuthorized {
		t.Errorf("a stranger authorised himself, and is answered with %v", answers[0])
	}
}

// Signals that only the bus and NetworkManager send are nothing to the daemon when they are from others; and messages that
// the library would take for the end of the stream are refused by themselves.
func TestConnectionSurvivesOddMessages(t *testing.T) {
	b := newBed(t, nil)
	line := b.server.line.Load()
	s := newStranger(t, b.address, false)
	for _, name := range []string{"NameLost", "NameAcquired", "NameOwnerChanged"} {
		signal := message(line.name(), "/org/freedesktop/DBus", busDriver+"."+name, base, "", "")
		signal.Type = dbus.TypeSignal
		s.send(frameOf(signal, 7))
		signal.Body, signal.Headers[dbus.FieldSignature] = []any{int32(1)}, dbus.MakeVariant(dbus.SignatureOf(int32(1)))
		s.send(frameOf(signal, 8))
	}
	seed := rand.Uint64()
	t.Log("seed", seed)
	h := newHostile(seed, base)
	for depth := 60; depth <= 64; depth++ { // the bus allows 64
		build := &builder{hostile: h, order: binary.LittleEndian, sig: "v"}
		for range depth - 1 {
			build.signature("v")
		}
		build.signature("y")
		build.data = append(build.data, 1)
		s.send(h.callWith(build, aMember{root, base + ".zone", "getServices", "v"}, 0))
	}
	for _, flags := range []byte{0x80, 0xff} {
		odd := frameOf(message(base, root, base+".zone.getZones"), 9)
		odd[2] = flags
		s.send(odd)
	}
	for _, kind := range []byte{5, 100, 255} {
		odd := frameOf(message(base, root, base+".zone.getZones"), 9)
		odd[1] = kind
		s.send(odd)
	}
	s.await()
	for range 300 {
		build := &builder{hostile: h, order: one[byteOrder](h, binary.LittleEndian, binary.BigEndian)}
		for _, sig := range split(h.signature()) {
			build.value(sig, 0)
		}
		s.send(silence(h.callWith(build, aMember{root, base + ".zone", "getServices", ""}, 0)))
	}
	s.await()
	b.must("", "zone.getZones")
	if b.server.line.Load() != line || !line.conn.Connected() {
		t.Error("the daemon lost its connection")
	}
}

// Who wants no answer gets none, whatever becomes of the call: an error, too, would be unasked for.
func TestNoAnswerToWhoWantsNone(t *testing.T) {
	b := newBed(t, nil)
	s := newStranger(t, b.address, false)
	for _, name := range []string{base + ".zone.getZones", base + ".nosuch", peerName + ".Ping", peerName + ".nosuch"} {
		s.send(silence(frameOf(message(base, root, name), 7)))
	}
	s.send(frameOf(message(base, root, base+".zone.getZones"), 8)) // in its turn after the others
	s.send(frameOf(message(base, root, peerName+".Ping"), 9))
	for range 2 {
		if serial := s.receive().Headers[dbus.FieldReplySerial].Value(); serial != uint32(8) && serial != uint32(9) {
			t.Errorf("call %v is answered", serial)
		}
	}
}

// Of a call that is refused nothing is decoded. The library's decoder remembers each type for ever, and a stranger can send
// as many as he likes.
func TestTypesOfStrangersAreForgotten(t *testing.T) {
	b := newBed(t, nil)
	b.startPolkit(authority{make(chan string, 100000)}) // which allows everybody to ask
	s := newStranger(t, b.address, false)
	h := newHostile(rand.Uint64(), base)
	send := func(n int) {
		for range n {
			list := &builder{hostile: h, order: binary.LittleEndian, sig: "av", data: make([]byte, 4)}
			for len(list.data) < 20000 { // some thousand types
				if sig := "a{s" + h.aType(9) + "}"; len(sig) < 200 {
					list.signature(sig)
					list.value(sig, 1)
				}
			}
			list.order.PutUint32(list.data, uint32(len(list.data)-4))
			s.send(h.callWith(list, aMember{root, base + ".zone", "getZoneOfInterface", "av"}, 0))
			for s.receive().Headers[dbus.FieldReplySerial].Value() != uint32(7) {
			}
		}
	}
	send(50)
	before := heap()
	send(300)
	if grown := heap() - before; grown > 256<<10 {
		t.Errorf("%d KB are kept of types", grown>>10)
	}
}

// An error says what is wrong in a few lines, however long the mistake is; and so does the log.
func TestLongMistakesAreAnsweredShortly(t *testing.T) {
	b := newBed(t, nil)
	err := b.call("", "zone.addService", "public", strings.Repeat("x", 100000), 0).Err
	if err == nil || len(err.Error()) > 2*longest {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
}

// One client's calls that wait do not keep another one's from being answered, and end when it goes.
func TestQuestionsAboutOneUserAreBounded(t *testing.T) {
	b := newBed(t, nil)
	_, called := hanging(t, b, polkitName)
	refused := make(chan string, 30)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for range questionsOfUser + 4 {
		conn := connectAs(t, b.address, nobody)
		go func() {
			err := conn.Object(base, root).CallWithContext(ctx, base+".zone.getZones", 0).Err
			if named, ok := err.(dbus.Error); ok {
				refused <- named.Name
			}
		}()
	}
	for range 4 {
		if got := <-refused; got != limitsExceeded {
			t.Errorf("a question too many is answered with %s", got)
		}
	}
	if asked := questions(called); asked != questionsOfUser {
		t.Errorf("polkit was asked %d times, want %d", asked, questionsOfUser)
	}
}
