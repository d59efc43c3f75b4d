// Command coppice runs a Coppice node and talks to one. "coppice --help" lists what it does; every
// command has its own help with examples. Scripts may rely on the exit codes that "coppice --help"
// lists and on the output of the commands with --json.
package main

import (
	"os"

	"github.com/coppice-go/coppice/cmd/coppice/command"
)

func main() { os.Exit(command.Main(command.Program{})) }
