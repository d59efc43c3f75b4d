//go:build unix && !linux

package process_test

// initProcess is the program of a test that only Linux has.
func initProcess() {}
