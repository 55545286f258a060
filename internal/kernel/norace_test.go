//go:build !race

package kernel

// raceFactor is by how much tests of large numbers have smaller ones under the race detector.
const raceFactor = 1
