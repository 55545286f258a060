package firewalldcmd

import (
	"context"
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"richwall/internal/kernel"
)

// A signal that comes while the machine is being closed for the start ends what waits there, and the start finds it: the guard stands, and goes
// or stays as at any other stop. What does not end is not waited for. A reload that is asked for then needs nothing, as no file was read yet.
func TestSignalsBeforeTheGuardStands(t *testing.T) {
	stopWithin(t, time.Hour)
	signals := make(chan os.Signal, 8)
	stands := &kernel.Guard{}
	waits := func(ctx context.Context) (*kernel.Guard, error) {
		signals <- syscall.SIGHUP
		signals <- syscall.SIGTERM
		<-ctx.Done()
		return stands, nil
	}
	if guard, err := awaitBase(waits, signals); guard != stands || err != nil {
		t.Errorf("the guard is %v, %v", guard, err)
	}
	if len(signals) != 1 || <-signals != syscall.SIGTERM {
		t.Error("the start does not find the signal alone")
	}

	broken := errors.New("it is broken")
	fails := func(ctx context.Context) (*kernel.Guard, error) {
		signals <- syscall.SIGTERM
		<-ctx.Done()
		return nil, broken
	}
	if _, err := awaitBase(fails, signals); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}
	if _, err := awaitBase(func(context.Context) (*kernel.Guard, error) { return nil, broken }, signals); !errors.Is(err, broken) {
		t.Errorf("the error is %v", err)
	}

	stopWithin(t, 20*time.Millisecond)
	hangs := func(context.Context) (*kernel.Guard, error) {
		signals <- syscall.SIGTERM
		<-t.Context().Done()
		return nil, nil
	}
	if _, err := awaitBase(hangs, signals); !errors.Is(err, errTooLong) {
		t.Errorf("the error is %v", err)
	}
}
