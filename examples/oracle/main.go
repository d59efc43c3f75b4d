// Command oracle is a price oracle: agents on several nodes observe a price, agree on the median,
// and choose one of them, the keeper, that publishes it. Then they pause and begin again. It is a
// service of rounds, which docs/tutorial-rounds.md explains step by step.
//
//	go run ./examples/oracle
//
// runs four nodes on this machine until Ctrl-C, and prints each report (run.go). With arguments the
// program has every command of coppice, and each of them knows the service:
//
//	go run ./examples/oracle rounds check
//	go run ./examples/oracle testnet start -n 4 --dir /tmp/oracle
//
// A node takes its source and its sink from its environment (config.go).
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/coppice-go/coppice/cmd/coppice/command"
	"github.com/coppice-go/coppice/node/exit"
)

// pause is the time between two periods. It is a part of the service: all nodes have the same.
const pause = 5 * time.Second

func main() {
	if len(os.Args) == 1 || os.Args[1] == "run" {
		if err := runUntilSignal(os.Args[min(2, len(os.Args)):], os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "oracle:", err)
			os.Exit(exit.Code(err))
		}
		return
	}

	c, err := fromEnvironment()
	if err != nil {
		fmt.Fprintln(os.Stderr, "oracle:", err)
		os.Exit(exit.Code(err))
	}

	os.Exit(command.Main(command.Program{
		Rounds: command.RoundsOf(Service(c, pause)),
		Env:    []string{sourceVar, sinkVar},
	}))
}
