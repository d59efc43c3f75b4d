package servers

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
)

// PostgresPassword is the password of the superuser postgres of each Postgres.
const PostgresPassword = "correct horse"

// postgresBin has Debian's programs of PostgreSQL, which are not in PATH.
const postgresBin = "/usr/lib/postgresql/15/bin"

// Postgres starts a PostgreSQL with fsync on and logical decoding. settings are more of its
// parameters, as NAME=VALUE. It refuses to run as root, so root runs it as the user postgres.
func Postgres(t testing.TB, settings ...string) *Server {
	t.Helper()
	Require(t, "postgresql")
	as := postgresUser(t)

	dir, err := os.MkdirTemp("", "coppice-postgres-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	secret := filepath.Join(dir, "password")
	if err := os.WriteFile(secret, []byte(PostgresPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	if as != nil {
		for _, name := range []string{dir, secret} {
			if err := os.Chown(name, int(as.Uid), int(as.Gid)); err != nil {
				t.Fatal(err)
			}
		}
	}

	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(postgresBin, "initdb"), "--no-sync", "-D", data, "-U", "postgres",
		"-A", "scram-sha-256", "--pwfile", secret, "-E", "UTF8", "--locale", "C")
	initdb.Dir, initdb.SysProcAttr = dir, &syscall.SysProcAttr{Credential: as}
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}

	port := freePort(t)
	args := []string{"-D", data, "-p", strconv.Itoa(port), "-c", "listen_addresses=127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "wal_level=logical", "-c", "max_replication_slots=20",
		"-c", "max_wal_senders=20", "-c", "shared_buffers=32MB",
		"-c", "recovery_init_sync_method=syncfs"} // a start after a kill syncs a thousand files otherwise
	for _, setting := range settings {
		args = append(args, "-c", setting)
	}

	return start(t, &Server{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		Dir:  data,
		command: func() *exec.Cmd {
			cmd := exec.Command(filepath.Join(postgresBin, "postgres"), args...)
			cmd.Dir, cmd.SysProcAttr = dir, &syscall.SysProcAttr{Credential: as}
			return cmd
		},
		ready: func(ctx context.Context, s *Server) error {
			_, port, _ := net.SplitHostPort(s.Addr)
			return exec.CommandContext(ctx, filepath.Join(postgresBin, "pg_isready"), "-q", "-h", "127.0.0.1",
				"-p", port).Run()
		},
	})
}

// PostgresURL returns the connection string of a database of a server that Postgres started.
func PostgresURL(s *Server, database string) string {
	return fmt.Sprintf("postgres://postgres:%s@%s/%s?sslmode=disable", "correct%20horse", s.Addr, database)
}

// postgresUser returns whom PostgreSQL runs as: nil means as this process.
func postgresUser(t testing.TB) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}

	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("servers: PostgreSQL does not run as root, and there is no user postgres: %v", err)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)

	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}
