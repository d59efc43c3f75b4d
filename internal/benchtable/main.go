// Command benchtable reads the output of "go test -bench", writes it to a file as it is, and prints
// one table: the median of the rounds of each benchmark. It exits 1 if a benchmark failed, or if
// there is none.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
)

func main() {
	raw := flag.String("raw", "", "file that receives the output as it is")
	flag.Parse()

	if err := run(os.Stdin, os.Stdout, *raw); err != nil {
		fmt.Fprintln(os.Stderr, "benchtable:", err)
		os.Exit(1)
	}
}

// run reads in, and writes the table to out.
func run(in io.Reader, out io.Writer, raw string) (err error) {
	var copyTo io.Writer = io.Discard
	if raw != "" {
		f, err := os.Create(raw)
		if err != nil {
			return err
		}
		defer func() {
			if closed := f.Close(); err == nil {
				err = closed
			}
		}()
		copyTo = f
	}

	r, err := read(io.TeeReader(in, copyTo))
	if err != nil {
		return err
	}
	if err := r.print(out); err != nil {
		return err
	}

	if raw != "" {
		if _, err := fmt.Fprintf(out, "\nThe lines of all rounds are in %s.\n", raw); err != nil {
			return err
		}
	}

	return r.err()
}
