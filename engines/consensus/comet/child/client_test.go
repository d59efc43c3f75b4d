package child

import (
	"net"
	"path/filepath"
	"reflect"
	"testing"

	abci "github.com/cometbft/cometbft/abci/types"
	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/consensus/comet/comettest"
)

// An application that answers a request which was not sent ends the client.
func TestAClientTakesNoAnswerForAnother(t *testing.T) {
	frame := func(resp *abci.Response) []byte {
		b, err := resp.Marshal()
		require.NoError(t, err)
		return comettest.Frame(b)
	}
	for name, c := range map[string]struct {
		answer []byte
		want   string
	}{
		"another kind": {frame(abci.ToResponseEcho("x")), "is answered with"},
		"CheckTx's":    {frame(abci.ToResponseCheckTx(&abci.ResponseCheckTx{})), "is answered with"},
		"one too many": {append(frame(abci.ToResponseInfo(&abci.ResponseInfo{})),
			frame(abci.ToResponseFlush())...), "without a request"},
		"an exception":      {frame(abci.ToResponseException("it broke")), "it broke"},
		"no protobuf":       {comettest.Frame([]byte("garbage")), "are not a response"},
		"no kind":           {comettest.Frame(nil), "unknown kind"},
		"the length only":   {[]byte{5}, "bytes came"},
		"too long a length": {[]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0x7f}, "want at most"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "s")
			l, err := net.Listen("unix", path)
			require.NoError(t, err)
			defer l.Close()

			go func() {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				conn.Read(make([]byte, 64))
				conn.Write(c.answer)
			}()

			cl, err := Clients(path).NewABCIClient()
			require.NoError(t, err)
			require.NoError(t, cl.Start())
			defer cl.Stop()

			cl.Info(t.Context(), &abci.RequestInfo{}) // an answer may come before the end
			<-cl.Quit()
			require.ErrorContains(t, cl.Error(), c.want)
		})
	}
}

func TestEachKindOfRequestHasItsKindOfAnswer(t *testing.T) {
	responses := (*abci.Response)(nil).XXX_OneofWrappers()
	for _, q := range (*abci.Request)(nil).XXX_OneofWrappers() {
		req := new(abci.Request)
		reflect.ValueOf(req).Elem().FieldByName("Value").Set(reflect.New(reflect.TypeOf(q).Elem()))

		n := 0
		for _, r := range responses {
			resp := new(abci.Response)
			reflect.ValueOf(resp).Elem().FieldByName("Value").Set(reflect.New(reflect.TypeOf(r).Elem()))
			if fits(req, resp) {
				n++
			}
		}

		require.Equal(t, 1, n, "%T", q)
	}
}
