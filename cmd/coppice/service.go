package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/spf13/cobra"
)

// unitTemplate is a systemd unit. A program of Go that meets what it can not handle ends with 2, as
// a command line that is not understood does; so 2 is no reason not to start again, and the start
// limit ends what is hopeless.
var unitTemplate = template.Must(
	template.New("unit").Parse(
		`# Made by "coppice service". Install it as /etc/systemd/system/coppice.service; docs/operating.md tells more.
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

# A node that gave up (6) or was killed comes back from its log. Configuration (3) and damage (5) want a person first.
Restart=on-failure
RestartSec=1s
RestartPreventExitStatus=3 5

# Time counts anew while the replay of a long log comes further. The watchdog is fed by answers of the tree and the engines.
TimeoutStartSec=2min
TimeoutStopSec=2min
WatchdogSec=60s
LimitNOFILE=65536

# The node writes below its home and nowhere else, opens sockets, and wants nothing besides.
{{- if .State}}
StateDirectory={{.State}}
StateDirectoryMode=0700
{{- else}}
ReadWritePaths={{.Home}}
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

// unit is what the template wants to know.
type unit struct {
	Binary, Home, User, Group string
	State                     string // the home's name below /var/lib; empty: it lies elsewhere
	ProtectHome               string
}

func (a *app) serviceCommand() *cobra.Command {
	u := unit{ProtectHome: "yes"}
	cmd := &cobra.Command{
		Use:   "service",
		Short: "Print a systemd unit for the node of this home",
		Long: `Service prints a unit file that runs the node of this home under systemd: it tells when the node is ready, feeds the
watchdog, starts it again after a failure, and lets it reach no more of the machine than it needs. It changes nothing.`,
		Example: `  coppice service --home /var/lib/coppice --user coppice | sudo tee /etc/systemd/system/coppice.service`,
		Args:    words(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := u.complete(a.home); err != nil {
				return usageError(cmd, "%w", err)
			}
			return unitTemplate.Execute(cmd.OutOrStdout(), u)
		},
	}
	f := cmd.Flags()
	f.StringVar(&u.Binary, "binary", "", "path of the program (default this one)")
	f.StringVar(&u.User, "user", "coppice", "user that the node runs as")
	f.StringVar(&u.Group, "group", "", "group that the node runs as (default as --user)")

	return cmd
}

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

	// A unit's words and specifiers: what would have to be quoted in one place and not in another
	// is refused.
	for name, v := range map[string]string{"--home": u.Home, "--binary": u.Binary, "--user": u.User,
		"--group": u.Group} {
		if v == "" || strings.ContainsAny(v, " \t\n\"'\\%$;") {
			return fmt.Errorf("%s is %q, which a unit file can not name: want no blanks, quotes, %%, $, ; or \\", name,
				v)
		}
	}

	if name, ok := strings.CutPrefix(u.Home, "/var/lib/"); ok {
		u.State = name
	}

	for _, hidden := range []string{"/home/", "/root/", "/run/user/"} {
		if strings.HasPrefix(u.Home, hidden) || strings.HasPrefix(u.Binary, hidden) {
			u.ProtectHome = "no"
		}
	}

	return nil
}
