package command

import (
	"fmt"
	"net"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/coppice-go/coppice/node/api"
)

// flood COUNT PROGRAM ARGS... opens COUNT connections to the node of the home, runs a program, and
// closes them. A third of them sends nothing, a third stops in the middle of a head, and a third
// promises a body that never comes.
func flood(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: flood count program [args...]")
	}

	count, err := strconv.Atoi(args[0])
	ts.Check(err)
	n, err := api.ReadNodeFile(ts.Getenv("COPPICE_HOME"))
	ts.Check(err)
	conns := make([]net.Conn, 0, count)
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()

	for i := range count {
		c, err := net.Dial("tcp", n.Address)
		ts.Check(err)
		conns = append(conns, c)

		switch i % 3 { // an error is fine: the node may have closed the connection already
		case 1:
			fmt.Fprint(c, "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ")
		case 2:
			fmt.Fprint(c, "POST /coppice.api.v1.NodeService/Submit HTTP/1.1\r\nHost: x\r\nContent-Type: "+
				"application/json\r\nContent-Length: 100\r\n\r\n{")
		}
	}

	ts.Check(ts.Exec(args[1], args[2:]...))
}
