package host

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/supervisor"
)

// The request that ends the child admin, by whatever way, is answered: with HTTP/2 an answer is
// written after its handler has returned.
func TestTheRequestThatKillsAdminIsAnswered(t *testing.T) {
	ways := map[string]func(context.Context){
		"panic":  func(context.Context) { panic(errors.New("by hand")) },
		"goexit": func(context.Context) { runtime.Goexit() },
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := ln.Addr().String()
	require.NoError(t, ln.Close())

	var run *supervisor.Run
	mux := http.NewServeMux()
	for how, do := range ways {
		mux.HandleFunc("/"+how, func(w http.ResponseWriter, r *http.Request) {
			if err := run.Inject(r.Context(), "admin", supervisor.Fault{Name: how, Do: do}); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			_, _ = io.WriteString(w, "killed by "+how)
		})
	}

	up := make(chan struct{}, 1)
	s, err := supervisor.New(supervisor.Spec{Intensity: supervisor.Intensity{Max: 1000, Period: time.Minute},
		Observers: []supervisor.Observer{supervisor.Discard},
		Build: supervisor.Children(supervisor.Child{ID: "admin",
			Start: func(context.Context) (supervisor.Service, error) {
				ln, err := net.Listen("tcp", address)
				if err != nil {
					return nil, err
				}
				srv := &http.Server{Handler: mux, Protocols: new(http.Protocols)}
				srv.Protocols.SetHTTP1(true)
				srv.Protocols.SetUnencryptedHTTP2(true)
				up <- struct{}{}
				return &admin{listener: ln, end: func() {}, server: srv}, nil
			}})})
	require.NoError(t, err)
	run, err = s.Start(t.Context())
	require.NoError(t, err)
	defer run.Stop(context.WithoutCancel(t.Context())) //nolint:errcheck // the test has what it wants

	<-up
	for range 20 {
		for how := range ways {
			c := http.Client{Transport: client.NewTransport()} // it has no connection to the one before
			res, err := c.Get("http://" + address + "/" + how)
			require.NoError(t, err)
			body, err := io.ReadAll(res.Body)
			require.NoError(t, err)
			require.Equal(t, "killed by "+how, string(body))
			require.NoError(t, res.Body.Close())
			c.CloseIdleConnections()
			<-up
		}
	}
}
