// Package eventline puts the events of a node into lines for people.
package eventline

import (
	"fmt"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/plain"
	"github.com/coppice-go/coppice/engines/chain"
	apiv1 "github.com/coppice-go/coppice/proto/coppice/api/v1"
	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// maxText bounds the bytes of a text.
const maxText = 400

const clock = "15:04:05.000"

// Line is an event in words.
type Line struct {
	Head string // the index of a record, or the time of another event
	Kind string
	Text string
	Bad  bool // something went wrong
}

// Of returns the line of an event.
func Of(e client.Event) Line {
	switch {
	case e.Record != nil:
		return Line{Head: fmt.Sprint(e.Record.Index), Kind: e.Record.Kind, Text: recordText(e.Record)}

	case e.Tree != nil:
		return OfTree(e.Tree)

	case e.Ready != nil:
		l := Line{Head: e.Ready.Since.AsTime().Local().Format(clock), Kind: "ReadinessChanged", Text: e.Ready.State}
		if e.Ready.Reason != "" {
			l.Text, l.Bad = plain.Line(e.Ready.State+": "+e.Ready.Reason, maxText), true
		}
		return l

	case e.Process != nil:
		return Line{Head: e.Process.At.AsTime().Local().Format(clock), Kind: "ProcessChanged",
			Text: plain.Line(e.Process.State+": "+e.Process.Text, maxText)}
	}

	return Line{Head: "-", Text: fmt.Sprintf("dropped %d events of the tree: this reader is too slow", e.Dropped)}
}

// OfTree returns the line of an event of the tree.
func OfTree(e *apiv1.TreeEvent) Line {
	l := Line{Head: e.Time.AsTime().Local().Format(clock), Kind: e.Kind, Text: plain.Line(e.Text, maxText)}
	if e.Incarnation != 0 {
		l.Kind += fmt.Sprintf(" #%d", e.Incarnation)
	}
	l.Bad = e.Class == apiv1.ExitClass_EXIT_CLASS_ABNORMAL || e.Kind == "GaveUp"

	return l
}

// recordText returns the content of a record in words.
func recordText(r *client.Record) string {
	switch m := r.Message.(type) {
	case *logv1.ChainStarted:
		return plain.Line("chain "+m.ChainId, maxText)

	case *logv1.TxLaunched:
		return fmt.Sprintf("%s, %d bytes", chain.HashTx(m.Tx), len(m.Tx))

	case *logv1.TxExpired:
		return fmt.Sprintf("%x", m.Id)

	case *logv1.OrderDecided:
		return fmt.Sprintf("height %d of period %d, %d transactions, block %.8x", m.Height, m.Period, len(m.Txs),
			m.BlockHash)

	case *logv1.BlockCommitted:
		text := fmt.Sprintf("height %d of period %d, %d results, %d changes, app hash %.8x", m.Height, m.Period,
			len(m.Results), len(m.Changes), m.AppHash)
		for _, f := range m.HookFailures {
			text += fmt.Sprintf("; backend %s at its end: %v, %s", plain.Text(f.Backend), f.Code,
				plain.Line(f.Log, maxText/2))
		}
		return text

	case *logv1.ChainReset:
		return plain.Line(fmt.Sprintf("%s period %d after height %d becomes %s period %d: %s", m.OldChainId,
			m.OldPeriod, m.LastHeight, m.NewChainId, m.NewPeriod, m.Reason), maxText)

	case *logv1.SnapshotInstalled:
		text := fmt.Sprintf("height %d of period %d, from %s", m.Height, m.Period, m.Source)
		return plain.Line(text, maxText)

	case *logv1.Base:
		return plain.Line("chain "+m.ChainId, maxText)
	}
	return ""
}
