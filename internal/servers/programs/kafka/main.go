// Command kafka is kfake, a Kafka broker for tests, on one port of the loopback interface, with a
// data directory and a sync of every write. It is not Kafka. It says on standard output when it
// answers, and runs until a signal ends it.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/twmb/franz-go/pkg/kfake"
)

func main() {
	port := flag.Int("port", 0, "TCP port on 127.0.0.1")
	dir := flag.String("dir", "", "data directory")
	sync := flag.Bool("sync", true, "sync every write")
	user := flag.String("user", "", "USER:PASSWORD that clients need (SASL PLAIN); empty: none")
	cert := flag.String("cert", "", "certificate and key of TLS, in one PEM file; empty: no TLS")
	settings := flag.String("set", "", "settings of the broker: KEY=VALUE,…")
	flag.Parse()

	opts := []kfake.Opt{kfake.Ports(*port), kfake.DataDir(*dir)}
	if *sync {
		opts = append(opts, kfake.SyncWrites())
	}
	if name, password, ok := strings.Cut(*user, ":"); ok {
		opts = append(opts, kfake.EnableSASL(), kfake.Superuser("PLAIN", name, password))
	}
	if *cert != "" {
		pair, err := tls.LoadX509KeyPair(*cert, *cert)
		if err != nil {
			fail(err)
		}
		opts = append(opts, kfake.TLS(&tls.Config{Certificates: []tls.Certificate{pair}}))
	}
	for _, s := range strings.FieldsFunc(*settings, func(r rune) bool { return r == ',' }) {
		key, value, _ := strings.Cut(s, "=")
		opts = append(opts, kfake.BrokerConfigs(map[string]string{key: value}))
	}

	if err := cutTorn(*dir); err != nil {
		fail(err)
	}
	if err := mend(*dir); err != nil {
		fail(err)
	}
	c, err := kfake.NewCluster(opts...)
	if err != nil {
		fail(err)
	}
	fmt.Println("ready", c.ListenAddrs()[0])
	select {}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "kafka:", err)
	os.Exit(1)
}
