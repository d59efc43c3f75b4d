package chain

import (
	"time"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// DefaultParams returns the limits of a genesis that names none.
func DefaultParams() *logv1.Params {
	return &logv1.Params{
		WindowNs:       int64(10 * time.Minute),
		MaxTxBytes:     1 << 20,
		MaxTxOps:       10_000,
		MaxTxSteps:     10_000_000,
		MaxResultBytes: 1 << 20,
		MaxBlockBytes:  4 << 20,
	}
}
