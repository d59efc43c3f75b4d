package logstream

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protojson"

	logv1 "github.com/coppice-go/coppice/proto/coppice/log/v1"
)

// Writer writes an export. Call its methods in the order of the format: Begin, then Record and Gap,
// then End.
type Writer struct {
	out     *bufio.Writer
	json    bool
	line    bytes.Buffer
	digest  digest
	records uint64
}

// NewWriter returns a writer of the binary format, or of JSON lines.
func NewWriter(w io.Writer, json bool) *Writer {
	return &Writer{out: bufio.NewWriterSize(w, 128<<10), json: json, digest: newDigest()}
}

// Begin writes the beginning.
func (w *Writer) Begin(b *logv1.ExportBegin) error {
	b.Version = Version
	return w.write(&logv1.Export{Part: &logv1.Export_Begin{Begin: b}})
}

// Record writes a record.
func (w *Writer) Record(r *logv1.ExportRecord) error {
	w.records++
	w.digest.record(r)
	return w.write(&logv1.Export{Part: &logv1.Export_Record{Record: r}})
}

// Gap writes a gap.
func (w *Writer) Gap(g *logv1.ExportGap) error {
	w.digest.gap(g)
	return w.write(&logv1.Export{Part: &logv1.Export_Gap{Gap: g}})
}

// End writes the message that ends the export, and flushes the underlying writer's buffer. It
// returns how many records were written.
func (w *Writer) End() (records uint64, err error) {
	if err := w.write(&logv1.Export{
		Part: &logv1.Export_End{End: &logv1.ExportEnd{Records: w.records, Digest: w.digest.sum()}}}); err != nil {
		return w.records, err
	}
	return w.records, w.out.Flush()
}

func (w *Writer) write(m *logv1.Export) error {
	if !w.json {
		_, err := protodelim.MarshalTo(w.out, m)
		return err
	}

	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	if err != nil {
		return err
	}

	w.line.Reset()
	if err := json.Compact(&w.line, b); err != nil { // removes protojson's varying blanks
		return err
	}

	w.line.WriteByte('\n')
	_, err = w.out.Write(w.line.Bytes())
	return err
}
