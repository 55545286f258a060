package bus

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// freeTime is the longest that Free takes. The machine is open until it has ended, and a bus that hangs must not keep it so.
const freeTime = 2 * time.Second

// Free is nil when no process has the daemon's name on a bus, whose address is as for Connect. The error is ErrTaken when one
// has it. Another error is that the bus could not be asked, or did not answer in time.
func Free(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), freeTime)
	defer cancel()
	s, err := open(ctx, address, slog.New(slog.DiscardHandler), nil)
	if err != nil {
		return fmt.Errorf("cannot reach the message bus: %w", err)
	}
	defer s.bus.Close()
	var taken bool
	if err := s.bus.BusObject().CallWithContext(ctx, busDriver+".NameHasOwner", 0, base).Store(&taken); err != nil {
		return fmt.Errorf("cannot ask the message bus: %w", err)
	}
	if taken {
		return ErrTaken
	}
	return nil
}
