//go:build !race

package supervisor_test

// ofRace is what the race detector adds to the allocations of an operation.
const ofRace = 0
