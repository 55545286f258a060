package bus

import (
	"testing"
	"time"
)

// A user who has spent all gets nothing done until some of it has come back; the superuser is not counted.
func TestBudget(t *testing.T) {
	b := budget{spent: map[uint32]spending{}}
	const user = 1000
	b.charge(user, allowance+2*income)
	if b.spend(user, refusal) {
		t.Error("somebody spends more than he has")
	}
	b.spent[user] = spending{b.spent[user].bytes, time.Now().Add(-3 * time.Second)}
	if !b.spend(user, refusal) {
		t.Error("after 3 s nothing has come back")
	}
	b.charge(superuser, 100*allowance)
	if !b.spend(superuser, refusal) {
		t.Error("the superuser is counted")
	}
}

// Only so many users are remembered. One who is not must wait until those who spent nothing for long are forgotten.
func TestBudgetForgets(t *testing.T) {
	b := budget{spent: map[uint32]spending{}}
	for uid := range uint32(spenders) {
		b.charge(uid+1, income)
	}
	if b.spend(1<<20, refusal) || len(b.spent) > spenders {
		t.Errorf("%d users are remembered", len(b.spent))
	}
	b.spent[7] = spending{income, time.Now().Add(-time.Minute)}
	if !b.spend(1<<20, refusal) || len(b.spent) > spenders {
		t.Errorf("nobody was forgotten, and %d users are remembered", len(b.spent))
	}
}

// A client's bound, a user's and that of all users hold each; and none of them is the superuser's.
func TestRoomForCalls(t *testing.T) {
	q := newQueue()
	fill := func(client string, uid uint32, bytes int) (calls int) {
		for calls < 1<<12 && q.reserve(client, uid, bytes) {
			calls++
		}
		return calls
	}
	if got := fill(":1.1", 1000, 10); got != strangers.client.calls {
		t.Errorf("a client has %d calls", got)
	}
	total := strangers.client.calls
	for _, client := range []string{":1.2", ":1.3", ":1.4", ":1.5"} {
		total += fill(client, 1000, 10)
	}
	if total != strangers.user.calls {
		t.Errorf("a user has %d calls", total)
	}
	for uid := range uint32(20) {
		total += fill(":2."+string(rune('a'+uid)), 2000+uid, 10)
	}
	if total != strangers.all.calls {
		t.Errorf("all users have %d calls", total)
	}
	if got := fill(":1.99", superuser, 1<<10); got != 1<<12 {
		t.Errorf("the superuser has %d calls", got)
	}

	q = newQueue()
	if q.reserve(":1.1", 1000, strangers.client.bytes+1) {
		t.Error("a call that is too long is taken")
	}
	bytes := 0
	for uid := range uint32(20) {
		bytes += fill(":2."+string(rune('a'+uid)), 2000+uid, 1<<18) << 18
	}
	if bytes != strangers.all.bytes {
		t.Errorf("all users have calls of %d bytes", bytes)
	}
}
