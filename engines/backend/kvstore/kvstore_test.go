package kvstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/coppice-go/coppice/engines/backend/backendtest"
	"github.com/coppice-go/coppice/engines/backend/kvstore"
	"github.com/coppice-go/coppice/engines/chain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The table holds the answers of CometBFT v0.40's CheckTx, except in the rows that say otherwise.
func TestCheck(t *testing.T) {
	for _, c := range []struct {
		tx   string
		want error
		says string
	}{
		{"key=value", nil, ""},
		{"key:value", nil, ""},
		{"valid=1", nil, ""}, // begins with "val" but not with "val="
		{"a=b c\x00\xff", nil, ""},
		{" = ", nil, ""},
		{"key", kvstore.ErrFormat, `3 bytes without "=" or ":", want key=value`},
		{"", kvstore.ErrFormat, "0 bytes without"},
		{"=value", kvstore.ErrFormat, `no key before the "="`},
		{":value", kvstore.ErrFormat, `no key before the ":"`},
		{"key=", kvstore.ErrFormat, `no value after the "=" at byte 3`},
		{"key:", kvstore.ErrFormat, `no value after the ":" at byte 3`},
		{"=", kvstore.ErrFormat, "no key"},
		{"a=b=c", kvstore.ErrFormat, `"=" at byte 1 and "=" at byte 3`},
		{"a:b:c", kvstore.ErrFormat, `":" at byte 1 and ":" at byte 3`},
		{"a=b:c", kvstore.ErrFormat, `"=" at byte 1 and ":" at byte 3`},
		{"a:b=c", kvstore.ErrFormat, `":" at byte 1 and "=" at byte 3`},
		{"val=", kvstore.ErrValidatorTx, "validator"},
		{"val=x", kvstore.ErrValidatorTx, "validator"},
		{"val=ed25519!AAAA!10", kvstore.ErrValidatorTx, "validator"}, // CometBFT's CheckTx accepts it
		// CometBFT's CheckTx accepts it, and CometBFT then rejects its own proposal.
		{"val:x", kvstore.ErrValidatorTx, "validator"},
		{strings.Repeat("k", chain.MaxKeyBytes+1) + "=v", kvstore.ErrFormat, "a key of 4097 bytes (at most 4096)"},
		{"k=" + strings.Repeat("v", chain.MaxValueBytes+1), kvstore.ErrFormat, "a value of 16777217 bytes"},
	} {
		t.Run(fmt.Sprintf("%.20q", c.tx), func(t *testing.T) {
			err := kvstore.New().Check([]byte(c.tx))
			var state backendtest.State
			_, execErr := state.Execute(kvstore.New(), []byte(c.tx))
			require.Equal(t, err, execErr, "Check and Execute agree")

			if c.want == nil {
				require.NoError(t, err)
				require.Len(t, state.Keys, 1)
				return
			}

			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, c.says)
			require.Empty(t, state.Keys)
		})
	}
}

func TestExecuteWrites(t *testing.T) {
	state := backendtest.State{Keys: map[string]string{"a": "old", "b": "kept"}}
	for _, tx := range []string{"a=new", "c:colon"} {
		data, err := state.Execute(kvstore.New(), []byte(tx))
		require.NoError(t, err)
		require.Empty(t, data)
		require.Zero(t, state.Reads, "it never waits for its place")
	}
	require.Equal(t, map[string]string{"a": "new", "b": "kept", "c": "colon"}, state.Keys)
}

func TestViewErrorIsReturnedAsItIs(t *testing.T) {
	down := errors.New("storage is down")
	for at := 1; at <= 2; at++ {
		state := backendtest.State{FailAt: at, Fail: down}
		_, err := state.Execute(kvstore.New(), []byte("a=b"))
		require.ErrorIs(t, err, down, "call %d", at)
		require.True(t, state.Returned == down, "call %d: Execute returned %v", at, state.Returned)
	}
}

// FuzzParse compares Parse with the written rule: exactly one separator, with something on both
// sides.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"a=b", "a:b", "a=b=c", "val=x", "val:x", "=", ""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, tx []byte) {
		key, value, err := kvstore.Parse(tx)
		fields := bytes.FieldsFunc(tx, func(r rune) bool { return r == '=' || r == ':' })
		seps := bytes.Count(tx, []byte("=")) + bytes.Count(tx, []byte(":"))
		want := seps == 1 && len(fields) == 2 &&
			!(len(tx) > 3 && string(tx[:3]) == "val" && (tx[3] == '=' || tx[3] == ':')) &&
			len(fields[0]) <= chain.MaxKeyBytes

		if want != (err == nil) {
			t.Fatalf("%q: %v", tx, err)
		}
		if err == nil && (!bytes.Equal(key, fields[0]) || !bytes.Equal(value, fields[1])) {
			t.Fatalf("%q: key %q, value %q", tx, key, value)
		}
	})
}

func Example() {
	var state backendtest.State
	_, err := state.Execute(kvstore.New(), []byte("name=coppice"))
	fmt.Println(state.Keys["name"], err)
	_, err = state.Execute(kvstore.New(), []byte("name"))
	fmt.Println(err)
	// Output:
	// coppice <nil>
	// malformed kvstore transaction: 4 bytes without "=" or ":", want key=value
}
