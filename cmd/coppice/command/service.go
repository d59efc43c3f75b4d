package command

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
)

// unitTemplate is a systemd unit. Exit code 2 does not prevent a restart: a Go program exits with 2
// after a fatal error of the runtime, as well as for an invalid command line. The start limit ends
// attempts that are hopeless.
var unitTemplate = template.Must(
	template.New("unit").Parse(
		`# Made by "coppice service". Install it as /etc/systemd/system/coppice.service.
# See docs/operating.md.
[Unit]
Description=Coppice node
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=10min
StartLimitBurst=10

[Service]
Type=notify
NotifyAccess=main
ExecStart={{.Binary}} start --home {{.Home}}
ExecReload=/bin/kill -HUP $MAINPID
EnvironmentFile=-/etc/default/coppice
User={{.User}}
Group={{.Group}}

# A node that gave up (6) or was killed comes back from its log. Configuration errors (3), damage
# (5) and a halt by a gate (7) need a person first.
Restart=on-failure
RestartSec=1s
RestartPreventExitStatus=3 5 7

# The start timeout is extended while the replay of a long log makes progress. Answers of the tree
# and the engines feed the watchdog.
TimeoutStartSec=2min
TimeoutStopSec=2min
WatchdogSec=60s
LimitNOFILE=65536

# The node writes only below its home and opens sockets. It needs nothing else.
{{- if .State}}
StateDirectory={{.State}}
StateDirectoryMode=0700
{{- else}}
ReadWritePaths={{.Home}}
{{- end}}
{{- range .WritePaths}}
ReadWritePaths={{.}}
{{- end}}
UMask=0077
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome={{.ProtectHome}}
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
CapabilityBoundingSet=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
`))

// unit holds the values for the template.
type unit struct {
	Binary, Home, User, Group string
	State                     string // the home's path below /var/lib; empty if it is elsewhere
	ProtectHome               string
	WritePaths                []string // of file sinks
}

func (a *app) serviceCommand() *cobra.Command {
	u := unit{ProtectHome: "yes"}
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Print a systemd unit for the node of this home",
		Long: `Service prints a systemd unit that runs the node of this home. Under the unit, systemd learns when
the node is ready, watches it by a watchdog, starts it again after a failure, and restricts it to
the parts of the machine that it needs. Service changes nothing.`,
		Example: `  coppice service --home /var/lib/coppice --user coppice |
    sudo tee /etc/systemd/system/coppice.service`,
		Args: words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := u.complete(a.home); err != nil {
				return usageError(cmd, "%w", err)
			}
			return unitTemplate.Execute(cmd.OutOrStdout(), u)
		},
	}
	f := cmd.Flags()
	f.StringVar(&u.Binary, "binary", "", "path of the program (default: this one)")
	f.StringVar(&u.User, "user", "coppice", "user that the node runs as")
	f.StringVar(&u.Group, "group", "", "group that the node runs as (default: the value of --user)")

	f.StringArrayVar(&u.WritePaths, "write-path", nil,
		"directory outside of the home that the node may write to, for a file sink (may be repeated)")

	return cmd
}

// complete fills in the defaults and checks the values.
func (u *unit) complete(home string) (err error) {
	if u.Home, err = filepath.Abs(home); err != nil {
		return err
	}

	if u.Binary == "" {
		if u.Binary, err = os.Executable(); err != nil {
			return err
		}
	}

	if u.Group == "" {
		u.Group = u.User
	}
	if !filepath.IsAbs(u.Binary) {
		return fmt.Errorf("--binary is %q, want an absolute path", u.Binary)
	}

	// The rules of quoting differ from line to line of a unit, so values that need it are refused.
	for name, v := range map[string]string{"--home": u.Home, "--binary": u.Binary, "--user": u.User,
		"--group": u.Group} {
		if v == "" || strings.ContainsAny(v, " \t\n\"'\\%$;") {
			return fmt.Errorf("%s is %q, which a unit file cannot name: want no blanks, quotes, %%, $, ; or \\", name,
				v)
		}
	}

	for _, path := range u.WritePaths {
		if !filepath.IsAbs(path) || strings.ContainsAny(path, " \t\n\"'\\%$;") {
			return fmt.Errorf("--write-path is %q, want an absolute path without blanks, quotes, %%, $, ; or \\", path)
		}
	}

	if name, ok := strings.CutPrefix(u.Home, "/var/lib/"); ok {
		u.State = name
	}

	for _, hidden := range []string{"/home/", "/root/", "/run/user/"} {
		for _, path := range append([]string{u.Home, u.Binary}, u.WritePaths...) {
			if strings.HasPrefix(path, hidden) {
				u.ProtectHome = "no"
			}
		}
	}

	return nil
}
