package main

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/cometbft/cometbft/abci/example/kvstore"
	"github.com/cometbft/cometbft/abci/server"
	abci "github.com/cometbft/cometbft/abci/types"
	"golang.org/x/sys/unix"

	"github.com/coppice-go/coppice/supervisor/process"
)

// appCommand is the argument with which this program runs CometBFT's example application in a
// process of its own.
const appCommand = "serve-app"

func serveApp(args []string) error {
	process.WatchParent()
	f := flag.NewFlagSet(appCommand, flag.ExitOnError)
	socket := f.String("socket", "", "path to listen on")
	dir := f.String("dir", "", "directory of the application's database")
	sync := f.Bool("sync", false, "one fdatasync in each Commit")
	if err := f.Parse(args); err != nil {
		return err
	}

	var app abci.Application = kvstore.NewPersistentApplication(*dir)

	if *sync {
		s, err := newSynced(app, filepath.Join(*dir, "synced"))
		if err != nil {
			return err
		}
		app = s
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()

	s := server.NewSocketServer("unix://"+*socket, app)
	if err := s.Start(); err != nil {
		return err
	}

	<-ctx.Done()

	return s.Stop()
}

// synced adds one fdatasync to each Commit of an application. It is the cheapest possible one: for
// eight bytes of a file that does not grow.
type synced struct {
	abci.Application
	file *os.File
	n    byte
}

func newSynced(app abci.Application, path string) (*synced, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	if _, err := f.Write(make([]byte, 4096)); err != nil {
		return nil, err
	}
	return &synced{Application: app, file: f}, f.Sync()
}

func (s *synced) Commit(ctx context.Context, req *abci.RequestCommit) (*abci.ResponseCommit, error) {
	resp, err := s.Application.Commit(ctx, req)
	if err != nil {
		return nil, err
	}
	s.n++
	if _, err := s.file.WriteAt([]byte{s.n, s.n, s.n, s.n, s.n, s.n, s.n, s.n}, 0); err != nil {
		return nil, err
	}

	return resp, unix.Fdatasync(int(s.file.Fd()))
}
