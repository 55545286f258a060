package disk

import (
	"sync"
	"time"
)

// Reading is a reading from a disk that may be slow. It is begun once and goes on where nobody waits for it any more: what has come of it is
// then for the next who asks. Its methods may be called at the same time.
type Reading[T any] struct {
	mu    sync.Mutex
	going *attempt[T] // nil for none
}

// attempt is one reading. What has come of it is there once done is closed.
type attempt[T any] struct {
	done  chan struct{}
	found T
	err   error
}

// Get returns what read returns, in a reading that goes on already or else in a new one. That one is waited for as long as first says, and
// one that goes on already as long as again says; ok is false where that was too short. A result is given once: who asks later has it
// read anew. read must return in the end, and must not panic.
func (r *Reading[T]) Get(first, again time.Duration, read func() (T, error)) (found T, ok bool, err error) {
	r.mu.Lock()
	a, wait := r.going, again
	if a == nil {
		a, wait = &attempt[T]{done: make(chan struct{})}, first
		r.going = a
		go func() {
			defer close(a.done)
			a.found, a.err = read()
		}()
	}
	r.mu.Unlock()
	if !a.endsWithin(wait) {
		return found, false, nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.going == a {
		r.going = nil
	}
	return a.found, true, a.err
}

// endsWithin waits for the end, and says whether it has come in time.
func (a *attempt[T]) endsWithin(wait time.Duration) bool {
	select {
	case <-a.done:
		return true
	default:
	}
	select {
	case <-a.done:
		return true
	case <-time.After(wait):
		return false
	}
}

// Forget has nobody get what a reading that goes on finds: it may be outdated.
func (r *Reading[T]) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.going = nil
}
