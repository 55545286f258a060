package disk

import (
	"errors"
	"testing"
	"time"
)

// A reading goes on where nobody waits for it any more, nobody begins another one meanwhile, and what it finds, or its error, is given once.
func TestReadingGoesOn(t *testing.T) {
	var r Reading[int]
	answer := make(chan error)
	get := func(n int, wait time.Duration) (int, bool, error) { // n is what a reading that is begun now finds
		return r.Get(wait, wait, func() (int, error) { return n, <-answer })
	}
	for n := range 3 {
		if n, ok, err := get(1+n, 0); ok || n != 0 || err != nil {
			t.Fatalf("a disk that does not answer has %d, %v, %v", n, ok, err)
		}
	}
	answer <- nil
	if n, ok, err := get(4, time.Hour); n != 1 || !ok || err != nil {
		t.Errorf("the first reading finds %d, %v, %v", n, ok, err)
	}
	get(5, 0)
	broken := errors.New("an input or output error")
	answer <- broken
	if n, ok, err := get(6, time.Hour); n != 5 || !ok || err != broken {
		t.Errorf("the second reading finds %d, %v, %v", n, ok, err)
	}
	get(7, 0)
	r.Forget()
	get(8, 0)
	answer <- nil
	answer <- nil
	if n, _, _ := get(9, time.Hour); n != 8 {
		t.Errorf("what is found is of reading %d, and that was to be forgotten", n)
	}
}
