package worker

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/chain"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// careful is a chain.Preparer that counts what it prepares. It refuses a seal of another nonce.
type careful struct {
	code
	prepared *int
}

func (c careful) Prepare(body []byte) (any, error) {
	*c.prepared++
	if string(body) == "bad" {
		return nil, errors.New("a bad body")
	}
	return "understood " + string(body), nil
}

func (c careful) CheckSeal(tx chain.Tx) error {
	if string(tx.Nonce) == "stolen" {
		return errors.New("a stolen body")
	}
	return nil
}

func (c careful) ExecutePrepared(_ chain.View, prepared any) ([]byte, error) {
	return []byte(prepared.(string)), nil
}

// A worker prepares a body that nobody has prepared, once, and refuses what Check and CheckSeal
// refuse. A body that was prepared at its submission is not prepared again.
func TestABodyIsPreparedOnce(t *testing.T) {
	for _, c := range []struct {
		body, nonce string
		given       any
		prepares    int
		code        logv1.Code
		data, log   string
	}{
		{"body", "", nil, 1, logv1.Code_CODE_OK, "understood body", ""},
		{"body", "", "understood before", 0, logv1.Code_CODE_OK, "understood before", ""},
		{"bad", "", nil, 1, logv1.Code_CODE_MALFORMED, "", "a bad body"},
		{"body", "stolen", nil, 1, logv1.Code_CODE_MALFORMED, "", "a stolen body"},
	} {
		n, s := 0, &store{}
		j := job(s, nil)
		j.Backend, j.Prepared = careful{prepared: &n}, c.given
		j.Tx.Body, j.Tx.Nonce = []byte(c.body), []byte(c.nonce)
		require.NoError(t, j.Serve(t.Context()))
		require.Equal(t, c.prepares, n, "%+v", c)
		require.Equal(t, c.code, s.result.Code)
		require.Equal(t, c.data, string(s.result.Data))
		require.Equal(t, c.log, s.result.Log)
	}
}

// A transaction sees its own last write of each key, however many it makes, and the state's value
// of the others.
func TestManyWritesAreSeen(t *testing.T) {
	want := make(map[string]string)
	s := &store{value: []byte("state")}
	j := job(s, func(v chain.View) ([]byte, error) {
		for i := range 4 * manyWrites {
			key, value := fmt.Sprint(i%(manyWrites-3)), fmt.Sprint(i)
			if i%5 == 0 {
				require.NoError(t, v.Delete([]byte(key)))
				want[key] = ""
			} else {
				require.NoError(t, v.Put([]byte(key), []byte(value)))
				want[key] = value
			}

			for key, value := range want {
				got, found, err := v.Get([]byte(key))
				require.NoError(t, err)
				require.Equal(t, value != "", found)
				require.Equal(t, value, string(got))
			}
			got, _, err := v.Get([]byte("another"))
			require.NoError(t, err)
			require.Equal(t, "state", string(got))
		}
		return nil, nil
	})
	require.NoError(t, j.Serve(t.Context()))
	require.Equal(t, logv1.Code_CODE_OK, s.result.Code)
	require.Len(t, s.changes, 4*manyWrites)
}
