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
	compare := flag.Bool("compare", false, "print the rates of a sink and of a plain loop, and the ratio of them")
	flag.Parse()

	form := results.print
	if *compare {
		form = results.printRatios
	}
	if err := run(os.Stdin, os.Stdout, *raw, form); err != nil {
		fmt.Fprintln(os.Stderr, "benchtable:", err)
		os.Exit(1)
	}
}

// run reads in, and writes the table to out in a form.
func run(in io.Reader, out io.Writer, raw string, form func(results, io.Writer) error) (err error) {
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
	if err := form(r, out); err != nil {
		return err
	}

	if raw != "" {
		if _, err := fmt.Fprintf(out, "\nThe lines of all rounds are in %s.\n", raw); err != nil {
			return err
		}
	}

	return r.err()
}
