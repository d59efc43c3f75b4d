package command

import (
	"cmp"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// app holds what all commands share: the values of the persistent flags, and the HTTP client for
// the calls to the node.
type app struct {
	program Program // what the program adds

	home    string
	address string
	token   string
	ca      string
	timeout time.Duration

	http *http.Client // nil: the default of package client
}

// homeUse is the annotation that says whether a command needs a home (or --address in its place). A
// command that works without one says homeUnused; settle says homeNeeded for every other command.
// The commands that cobra adds, such as completion, have no annotation and need no home.
const (
	homeUse    = "home"
	homeNeeded = "needed"
	homeUnused = "unused"
)

// newRoot returns the whole command line of a program.
func newRoot(p Program) *cobra.Command {
	a := &app{program: p}
	root := &cobra.Command{
		Use:   "coppice",
		Short: "A consensus node that can be cut anywhere and grows back with nothing lost",
		Long: `Coppice runs a node that orders transactions and keeps their state. The node is a supervision
tree. Any part of it may be killed at any time, and nothing that was acknowledged is lost.

Exit codes: 0 done, 1 failed, 2 usage, 3 configuration, 4 home in use, 5 damage found,
6 gave up (the reason is printed), 7 halted by a sink.`,
		Example: `  coppice init && coppice start
  coppice tx put greeting hello
  coppice get greeting
  coppice demo`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.Version = "-" // any value adds the flag --version; the template prints the version
	root.SetVersionTemplate(buildVersion().line())
	root.SetUsageTemplate(strings.ReplaceAll(root.UsageTemplate(), ".FlagUsages", ".FlagUsagesWrapped 100"))
	f := root.PersistentFlags()
	f.StringVar(&a.home, "home", defaultHome(), "directory of the node (env COPPICE_HOME)")
	f.StringVar(&a.address, "address", "", "host:port or URL of the node (default: from the home's node.json)")
	f.StringVar(&a.token, "token", "", "token for the node (env COPPICE_TOKEN; default: the home's admin.token)")
	f.StringVar(&a.ca, "ca", "", "PEM file of certificates to trust, for an --address of https")
	f.DurationVar(&a.timeout, "timeout", 15*time.Second, "how long to keep trying while the node is down or busy")
	root.PersistentPreRunE = a.prepare
	root.AddCommand(a.initCommand(), a.startCommand(), a.stopCommand(), a.statusCommand(), a.treeCommand(),
		a.dashboardCommand(), a.topCommand(),
		a.getCommand(), a.txCommand(), a.killCommand(), a.eventsCommand(), a.loadCommand(),
		a.verifyCommand(), a.snapshotCommand(), a.backupCommand(), a.restoreCommand(), a.logCommand(), a.demoCommand(),
		a.soakCommand(), versionCommand(), a.nodeIDCommand(), a.validatorsCommand(), a.resetCommand(), a.keysCommand(),
		a.genesisCommand(), a.peersCommand(), a.roundsCommand(), a.streamsCommand(),
		a.testnetCommand())
	root.AddCommand(a.configCommand(), a.upgradeCommand(), a.serviceCommand(), a.tokenCommand(),
		a.pruneCommand(), a.compactCommand(), a.managerCommand(), a.debugCommand())
	root.AddCommand(driverCommands()...)
	settle(root)

	return root
}

// settle gives cmd and every command below it what they have in common: wrong flags and arguments
// are usage errors, a command that only groups others prints its help, and a command that does not
// say otherwise needs a home.
func settle(cmd *cobra.Command) {
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if strings.Contains(err.Error(), "shorthand") {
			return usageError(c, "%w (a word that begins with - goes after a --)", err)
		}
		return usageError(c, "%w", plainFlagError(err))
	})

	if cmd.HasSubCommands() && cmd.Run == nil && cmd.RunE == nil {
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = groupOnly
	}

	if inner := cmd.Args; inner != nil {
		cmd.Args = func(c *cobra.Command, args []string) error {
			if err := inner(c, args); err != nil {
				return usageError(c, "%w", err)
			}
			return nil
		}
	}

	if cmd.Annotations[homeUse] == "" {
		cmd.Annotations = map[string]string{homeUse: homeNeeded}
	}

	for _, c := range cmd.Commands() {
		settle(c)
	}
}

// groupOnly runs a command that only groups others: it prints the help, and refuses arguments as
// unknown commands.
func groupOnly(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return c.Help()
	}

	hint := ""
	c.SuggestionsMinimumDistance = 2 // at most 2 letters may differ
	if near := c.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(", did you mean %s?", strings.Join(near, " or "))
	}

	return usageError(c, "unknown command %q%s", c.CommandPath()+" "+args[0], hint)
}

// prepare checks the persistent flags and completes a before any command runs.
func (a *app) prepare(cmd *cobra.Command, args []string) error {
	catchBrokenPipe()

	if err := cmd.ValidateRequiredFlags(); err != nil { // cobra's own check comes later, and is no usage error
		return usageError(cmd, "%w", err)
	}
	if err := a.needsHome(cmd, args); err != nil {
		return err
	}
	if a.ca != "" && !strings.HasPrefix(a.address, "https://") {
		return usageError(cmd, "--ca goes with an --address of https://")
	}
	var err error
	if a.http, err = a.transport(); err != nil {
		return err
	}

	a.token = cmp.Or(a.token, os.Getenv("COPPICE_TOKEN"))

	return nil
}

// needsHome refuses a command that needs a home when no flag and no variable names one.
func (a *app) needsHome(cmd *cobra.Command, _ []string) error {
	if a.timeout <= 0 {
		return usageError(cmd, "--timeout is %v, want more than 0", a.timeout)
	}

	if cmd.Annotations[homeUse] == homeNeeded && a.home == "" && a.address == "" {
		return usageError(cmd, "--home is empty, and neither COPPICE_HOME nor HOME is set")
	}
	return nil
}

// words returns the Args of a command that takes exactly the arguments of these names.
func words(names ...string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != len(names) {
			want := strings.Join(names, " ")
			if want == "" {
				want = "none"
			}

			noun := "arguments"
			if len(args) == 1 {
				noun = "argument"
			}

			return fmt.Errorf("%d %s, want %s", len(args), noun, want)
		}
		return nil
	}
}

// defaultHome returns COPPICE_HOME, or else .coppice in the user's home directory.
func defaultHome() string {
	if h := os.Getenv("COPPICE_HOME"); h != "" {
		return h
	}
	if u, err := os.UserHomeDir(); err == nil {
		return filepath.Join(u, ".coppice")
	}
	return "" // needsHome reports it
}
