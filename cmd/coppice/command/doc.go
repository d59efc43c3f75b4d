// Package command is the command line of Coppice as a library. A program with transaction backends
// of its own gets every command (start, verify, backup, log, tx …) with them in a few lines:
//
//	func main() { os.Exit(command.Main(command.Program{Backends: []chain.Backend{Bank{}}})) }
//
// Each leaf command is a file of its own, named as its path. Scripts may rely on the exit codes
// that "coppice --help" lists and on the output of the commands with --json. The Go functions are
// no more than Main: programs that want the parts use packages node and client.
package command
