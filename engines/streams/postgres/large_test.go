package postgres

import (
	"testing"

	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Items 25 and 58.
func testALargeBlockNeedsLittleMemory(t *testing.T, server *servers.Server) {
	d, secrets := target(t, server)
	sinktest.Large(t, Factory(), sinktest.Target{Definition: d, Secrets: secrets})
}
