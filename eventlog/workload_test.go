package eventlog_test

import (
	"os"
	"testing"

	"github.com/coppice-go/coppice/eventlog/internal/workload"
	"go.uber.org/goleak"
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

// soak returns long if the campaigns are to run at length (COPPICE_SOAK=1), and short otherwise.
func soak(short, long int) int {
	if os.Getenv("COPPICE_SOAK") != "" {
		return long
	}
	return short
}
