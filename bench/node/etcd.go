package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// etcd is a cluster of one member.
type etcd struct {
	path, dir, address string
	process            *process
}

func newEtcd(path, dir string) target { return &etcd{path: path, dir: dir} }

func (e *etcd) start(ctx context.Context) (err error) {
	var peers string
	if e.address, err = freeAddress(); err != nil {
		return err
	}
	if peers, err = freeAddress(); err != nil {
		return err
	}

	client, peer := "http://"+e.address, "http://"+peers
	if e.process, err = begin(e.dir, e.path, "--data-dir", filepath.Join(e.dir, "data"), "--name", "bench",
		"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "bench="+peer, "--log-level", "error"); err != nil {
		return err
	}

	c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.address}, DialTimeout: time.Minute})
	if err != nil {
		return err
	}
	defer c.Close()

	return e.process.await(func() error {
		once, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err := c.Put(once, "ready", "")
		return err
	})
}

// etcdLoadCommand is the argument with which this program is the load of etcd, in a process of its
// own as "coppice load" is.
const etcdLoadCommand = "load-etcd"

func (e *etcd) load(ctx context.Context, r row, o options, length time.Duration) (m measured, err error) {
	self, err := os.Executable()
	if err != nil {
		return m, err
	}

	out, err := exec.CommandContext(ctx, self, etcdLoadCommand, "-address", e.address, "-clients",
		strconv.Itoa(r.clients), "-conns", strconv.Itoa(o.conns), "-size", strconv.Itoa(o.size), "-duration",
		length.String()).Output()
	if err != nil {
		return m, fmt.Errorf("%s: %w: %s", etcdLoadCommand, err, out)
	}

	return m, json.Unmarshal(out, &m)
}

func (e *etcd) counted() (counts, error) { return counts{}, nil }

func (e *etcd) stop() error { return e.process.end(syscall.SIGTERM) }

// etcdLoad writes values with keys of their own, as "coppice load" does, and prints the figures.
func etcdLoad(args []string) error {
	f := flag.NewFlagSet(etcdLoadCommand, flag.ExitOnError)
	address := f.String("address", "", "host:port")
	clients := f.Int("clients", 1, "clients that write at the same time")
	conns := f.Int("conns", 1, "connections")
	size := f.Int("size", 64, "bytes of a value")
	length := f.Duration("duration", time.Second, "how long to write")
	if err := f.Parse(args); err != nil {
		return err
	}

	var cs []*clientv3.Client
	for range min(*conns, *clients) {
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{*address}, DialTimeout: time.Minute})
		if err != nil {
			return err
		}
		defer c.Close()
		cs = append(cs, c)
	}

	var wg sync.WaitGroup
	var mu sync.Mutex
	var all []time.Duration
	var m measured

	begun := time.Now()
	prefix := strconv.FormatUint(rand.Uint64(), 36)

	for i := range *clients {
		wg.Go(func() {
			var took []time.Duration
			var failed int64
			value := make([]byte, *size)

			for n := 0; time.Since(begun) < *length; n++ {
				for j := range value {
					value[j] = 'a' + byte(rand.Uint32()%26)
				}
				at := time.Now()
				if _, err := cs[i%len(cs)].Put(context.Background(), fmt.Sprintf("%s/%d/%d", prefix, i, n),
					string(value)); err != nil {
					failed++
					continue
				}
				took = append(took, time.Since(at))
			}

			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
			m.Failed += failed
		})
	}

	wg.Wait()

	m.PerSecond = float64(len(all)) / time.Since(begun).Seconds()
	if slices.Sort(all); len(all) > 0 {
		m.P50 = float64(all[len(all)/2]) / float64(time.Millisecond)
	}

	return json.NewEncoder(os.Stdout).Encode(m)
}

// freeAddress returns an address of this machine that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
