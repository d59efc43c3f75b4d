package postgres

import (
	"testing"

	"github.com/coppice-go/coppice/engines/streams"
	"github.com/coppice-go/coppice/engines/streams/sinktest"
	"github.com/coppice-go/coppice/internal/servers"
)

// Items 6, 9, 11, 27, 44, 48 and 72, on a server that is killed.
func testThePostgresSinkKeepsTheContract(t *testing.T, server *servers.Server) {
	every := sinktest.Thinned(3)
	sinktest.Run(t, Factory(), sinktest.Rig{Every: every, Target: func(t testing.TB) sinktest.Target {
		d, secrets := target(t, server)
		return sinktest.Target{
			Definition: d, Secrets: secrets, Damage: damage(server, d),
			Kill: func() error { server.Kill(); return server.TryStart() },
		}
	}})
}

// damage plants the faults that tables can have. Their primary keys rule out doubled rows, unless
// somebody drops them.
func damage(s *servers.Server, d streams.Definition) map[streams.Fault]func() error {
	do := func(statements ...string) func() error {
		return func() error { return try(s, d, statements...) }
	}
	const change = "(select height, index from events where kind = 'outcome' and height > 2 order by 1, 2 limit 1)"

	return map[streams.Fault]func() error{
		streams.FaultLost: do("delete from events where (height, index) in " + change),
		streams.FaultDoubled: do("alter table events drop constraint events_pkey",
			"insert into events select * from events where (height, index) in "+change),
		streams.FaultChanged: do("update events set value = 'changed' where (height, index) in " + change),
		streams.FaultSwapped: do("alter table events drop constraint events_pkey",
			`update events e set index = case index when o.low then o.high else o.low end from
			(select height, min(index) as low, max(index) as high from events where kind <> 'block' and height > 2
			group by height having count(*) > 2 order by height limit 1) o where e.height = o.height and
			e.index in (o.low, o.high)`),
		streams.FaultForeign: do("insert into events values (0, 3, 1, 0, 'change', 0, 'k', 'v')"),
	}
}
