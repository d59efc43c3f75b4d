package eventlog_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/eventlog/internal/workload"
)

const logDir = workload.Dir

type (
	promises = workload.Promises
	kept     = workload.Kept
)

var (
	small       = workload.Small
	recordAt    = workload.RecordAt
	recordsAt   = workload.RecordsAt
	newPromises = workload.NewPromises
	readAll     = workload.ReadAll
	same        = workload.Same
	work        = workload.Run
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(childMain(dir))
	}
	if dir := os.Getenv(faultyEnv); dir != "" {
		os.Exit(faultyMain(dir))
	}
	goleak.VerifyTestMain(m)
}

// soak returns long if COPPICE_SOAK is set, so that the campaigns run at length, and short
// otherwise.
func soak(short, long int) int {
	if os.Getenv("COPPICE_SOAK") != "" {
		return long
	}
	return short
}
