package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// A row that cannot be read is passed over, so that verify finds it missing and goes on. Rows where
// the sink has no block are named apart.
func testDamagedRowsHideNoOthers(t *testing.T, server *servers.Server) {
	d, secrets := target(t, server)
	s := open(t, d, secrets, 1)
	units := sinktest.Units(1, 3)
	all := 0
	for _, u := range units {
		require.NoError(t, s.Write(t.Context(), sinktest.Feed(u)))
		all += len(u)
	}
	read := func() (n int) {
		require.NoError(t, s.Read(t.Context(), streams.Position{}, units[len(units)-1].Position(),
			func(streams.Event) error { n++; return nil }))
		return n
	}
	require.Equal(t, all, read())
	places, err := s.(streams.StraySink).Strays(t.Context())
	require.NoError(t, err)
	require.Empty(t, places)

	run(t, server, d, "update events set kind = 'bogus' where (height, index) = (select height, index from events "+
		"where kind = 'change' order by height, index limit 1)",
		"insert into events select period, 99999, index, part, kind, tx, key, value, decoded, body from events "+
			"where height = 2 and index = 0",
		"insert into events select period, -5, index, part, kind, tx, key, value, decoded, body from events "+
			"where height = 2 and index = 0")
	require.Equal(t, all-1, read())
	places, err = s.(streams.StraySink).Strays(t.Context())
	require.NoError(t, err)
	require.Len(t, places, 2)
	require.EqualValues(t, 99999, places[1].Height)
}
