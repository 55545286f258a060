//go:build !race

package richwall

// slower is how many times as much time and memory commands may take under the race detector.
const slower = 1
