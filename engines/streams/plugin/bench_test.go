//go:build linux

package plugin

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	pluginv1 "github.com/coppice-go/coppice/proto/coppice/plugin/v1"
)

// Item 55: beside one unary call of the same bytes to the same process. The plugin's sink does
// nothing with them.
func BenchmarkPlugin(b *testing.B) {
	for _, changes := range []int{1000, 5000} {
		b.Run(fmt.Sprint(changes), func(b *testing.B) {
			s, _ := open(b, copyOfOwn(b), "")
			sinktest.Compare(b, 0.7, sinktest.Blocks(b.N, changes),
				func(u sinktest.Unit) error { return s.Write(b.Context(), sinktest.Feed(u)) },
				func(u sinktest.Unit) error {
					var all []byte
					for _, e := range u {
						var err error
						all, err = streams.AppendProto(all, e)
						require.NoError(b, err)
					}
					_, err := s.run.service.Open(b.Context(), &pluginv1.OpenRequest{
						Holder: strings.ToValidUTF8(string(all), "?")})
					return err
				})
		})
	}
}
