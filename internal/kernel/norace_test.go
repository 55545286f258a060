//go:build !race

package kernel

// RaceFactor is by how much tests of large numbers have smaller ones under the race detector.
const RaceFactor = 1
