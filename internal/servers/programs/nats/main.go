// Command nats is a nats-server with JetStream on one port of the loopback interface. Its file
// store syncs before it acknowledges. It says on standard output when it answers, and runs until a
// signal ends it.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	port := flag.Int("port", 0, "TCP port on 127.0.0.1")
	dir := flag.String("dir", "", "directory of the file store")
	sync := flag.Bool("sync", true, "sync before each acknowledgment")
	config := flag.String("config", "", "a configuration file with more settings (TLS, users)")
	flag.Parse()

	opts := &server.Options{}
	if *config != "" {
		if err := opts.ProcessConfigFile(*config); err != nil {
			fail(err)
		}
	}
	opts.Host, opts.Port, opts.JetStream, opts.StoreDir, opts.SyncAlways = "127.0.0.1", *port, true, *dir, *sync
	opts.NoSigs = true

	s, err := server.NewServer(opts)
	if err != nil {
		fail(err)
	}
	s.ConfigureLogger()
	s.Start()
	if !s.ReadyForConnections(time.Minute) {
		fail(fmt.Errorf("not ready within a minute"))
	}
	fmt.Println("ready", s.ClientURL())
	s.WaitForShutdown()
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "nats:", err)
	os.Exit(1)
}
