package chain_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
)

type plain struct{ chain.Backend }

type hooked struct{ chain.BlockBackend }

func (h hooked) Name() string { return "hooked" }

func TestBlockBackendsAreThoseWithAHook(t *testing.T) {
	x, y := hooked{}, hooked{}
	got := chain.BlockBackends(map[string]chain.Backend{"y": y, "p": plain{}, "x": x})
	require.Equal(t, []chain.BlockBackend{x, y}, got)
	require.Empty(t, chain.BlockBackends(map[string]chain.Backend{"p": plain{}}))
}

func TestReservedKeysHaveTheirWriters(t *testing.T) {
	for key, writer := range map[string]string{
		chain.ReservedPrefix + "validators": chain.GovernanceBackend,
		chain.ReservedPrefix + "rounds":     chain.GovernanceBackend,
		chain.RoundsPrefix:                  chain.RoundsBackend,
		chain.RoundsPrefix + "vote/1/a":     chain.RoundsBackend,
	} {
		for _, backend := range []string{"kv", chain.GovernanceBackend, chain.RoundsBackend, "round", ""} {
			require.True(t, chain.MayWrite(backend, []byte("k")))
			require.Equal(t, backend == chain.GovernanceBackend || backend == chain.RoundsBackend,
				chain.MayWrite(backend, []byte(chain.ResetKey)), backend)
			require.Equal(t, backend == writer, chain.MayWrite(backend, []byte(key)), "%s writes %q", backend, key)
		}
	}
}
