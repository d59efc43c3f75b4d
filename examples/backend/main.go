// Command backend is a whole node program with a transaction backend of its own, a bank. It has
// every command of coppice (init, start, status, verify, backup …), and each of them knows the
// bank.
//
// A backend is three methods: Name, Check and Execute (bank.go). command.Main makes a program of
// it. The node does everything else: it makes transactions durable before it acknowledges them,
// puts them into one order, and applies each at most once, whatever is killed. The test beside this
// file cuts the power and kills engines, and counts the money; it also kills the program, and
// starts the stock one in its place, which refuses the home because it has no bank.
//
//	go run ./examples/backend init --home /tmp/bank
//	go run ./examples/backend start --home /tmp/bank
//
// Without arguments it runs a node inside the process and makes a few transfers (demo.go).
package main

import (
	"fmt"
	"os"

	"github.com/coppice-go/coppice/cmd/coppice/command"
	"github.com/coppice-go/coppice/engines/chain"
)

func main() {
	if len(os.Args) > 1 {
		os.Exit(command.Main(command.Program{Backends: []chain.Backend{Bank{}}}))
	}

	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
