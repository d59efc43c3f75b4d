package metrics_test

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/coppice-go/coppice/engines/backend/kv"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/node/nodetest"
)

// docs/sizing.md says how many bytes of log a transaction takes. This test submits such
// transactions, one at a time and many at once, and compares.
func TestSizesAreAsDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/sizing.md")
	require.NoError(t, err)
	rows := regexp.MustCompile(`(?m)^\| (\d+) \| (\d+) \| (\d+) \|`).FindAllStringSubmatch(string(doc), -1)
	require.Len(t, rows, 3)

	for _, row := range rows {
		var value, alone, many int
		for i, p := range []*int{&value, &alone, &many} {
			*p, err = strconv.Atoi(row[i+1])
			require.NoError(t, err)
		}

		require.InEpsilon(t, alone, logBytes(t, value, 1), 0.1, "value of %d bytes, a block for each", value)
		require.InEpsilon(t, many, logBytes(t, value, 500), 0.1, "value of %d bytes, 500 to a call", value)
	}
}

// logBytes returns how many bytes of log a transaction takes that puts a value of the given size at
// a key of 16 bytes, if so many are submitted with one call.
func logBytes(t *testing.T, value, batch int) float64 {
	t.Helper()
	n := nodetest.Start(t)
	c := n.Client()
	total, next := max(20, 2*batch), 0

	before := sum(t, n, "coppice_eventlog_record_bytes_total")

	for next < total {
		var txs []chain.Tx
		for range batch {
			body, err := kv.Encode(kv.Put(fmt.Appendf(nil, "key-%012d", next), bytes.Repeat([]byte{'v'}, value)))
			require.NoError(t, err)
			txs = append(txs, chain.NewTx(kv.Name, body, time.Minute))
			next++
		}

		_, err := c.SubmitMany(t.Context(), encoded(t, txs), true)
		require.NoError(t, err)
	}

	return (sum(t, n, "coppice_eventlog_record_bytes_total") - before) / float64(total)
}

func encoded(t *testing.T, txs []chain.Tx) (all [][]byte) {
	t.Helper()
	for _, tx := range txs {
		b, err := tx.Encode()
		require.NoError(t, err)
		all = append(all, b)
	}
	return all
}

// sum returns the sum of the series of a metric.
func sum(t *testing.T, n *nodetest.Node, metric string) (total float64) {
	t.Helper()
	for _, line := range series(t, n, metric+"{") {
		v, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		require.NoError(t, err)
		total += v
	}
	return total
}
