//go:build race

package bus

// The race detector makes the daemon several times slower, and not the bus.
func init() { clocked = false }
