//go:build race

package kernel

// RaceFactor is by how much tests of large numbers have smaller ones: the race detector makes everything some ten times slower.
const RaceFactor = 10
