package postgres

import (
	"testing"

	"github.com/coppice-go/coppice/internal/servers"
)

// TestPostgres runs the tests that share a server, one after the other.
func TestPostgres(t *testing.T) {
	server := servers.Postgres(t)
	for name, test := range map[string]func(*testing.T, *servers.Server){
		"TroubleWithPostgresHasAClass":      testTroubleWithPostgresHasAClass,
		"ARefusedRowNamesItsEvent":          testARefusedRowNamesItsEvent,
		"AClaimEndsAWriterThatHoldsTheLock": testAClaimEndsAWriterThatHoldsTheLock,
		"ALargeBlockNeedsLittleMemory":      testALargeBlockNeedsLittleMemory,
		"NULInTextIsKept":                   testNULInTextIsKept,
		"ALostConnectionIsUnreachable":      testALostConnectionIsUnreachable,
		"DamagedRowsHideNoOthers":           testDamagedRowsHideNoOthers,
		"ThePostgresSinkKeepsTheContract":   testThePostgresSinkKeepsTheContract,
	} {
		t.Run(name, func(t *testing.T) { test(t, server) })
	}
}
