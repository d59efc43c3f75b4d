package kafka

import (
	"testing"

	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Items 25 and 58.
func TestALargeBlockNeedsLittleMemory(t *testing.T) {
	d, secrets := target(t, servers.Kafka(t))
	sinktest.Large(t, Factory(), sinktest.Target{Definition: d, Secrets: secrets})
}
