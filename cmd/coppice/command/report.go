package command

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/coppice-go/coppice/client"
	"github.com/coppice-go/coppice/cmd/coppice/internal/dump"
	"github.com/coppice-go/coppice/engines/chain"
	"github.com/coppice-go/coppice/engines/consensus/comet"
	"github.com/coppice-go/coppice/eventlog"
	"github.com/coppice-go/coppice/node/api"
	"github.com/coppice-go/coppice/node/config"
	"github.com/coppice-go/coppice/node/inspect"
	"github.com/coppice-go/coppice/node/offline"
	"github.com/coppice-go/coppice/node/retention"
)

// report gets the parts of "debug dump": from the node, if one answers, and otherwise from the
// home.
type report struct {
	*app
	c       *client.Client
	down    error    // why no node answers; nil: one does
	names   []string // of the parts that the node makes
	logFile string
}

// newReport finds out whether a node answers.
func (a *app) newReport(parent context.Context, logFile string) *report {
	r := &report{app: a, c: a.client(), logFile: logFile}
	ctx, cancel := context.WithTimeoutCause(parent, a.timeout, fmt.Errorf("no answer within %v", a.timeout))
	defer cancel()

	if _, err := r.c.HostStatus(ctx); err != nil {
		r.down = cmp.Or(a.notRunning(), a.nodeError(ctx, err))
	}
	r.names = r.inspections(ctx)
	return r
}

// local reports whether there is a home to read.
func (r *report) local() bool { return r.address == "" }

// offline reports whether the home is the only source.
func (r *report) offline() bool { return r.down != nil && r.local() }

// parts returns all parts.
func (r *report) parts() []dump.Part {
	parts := []dump.Part{
		{Name: "version.json", Get: func(context.Context) ([]byte, error) { return jsonOf(buildVersion()) }},
		r.asked("host.json", r.message(func(ctx context.Context) (proto.Message, error) {
			return r.c.HostStatus(ctx)
		})),
		r.asked("status.json", r.status),
		r.asked("tree.json", r.message(func(ctx context.Context) (proto.Message, error) { return r.c.Tree(ctx) })),
		r.asked("spec.txt", r.spec),
		r.asked("metrics.txt", r.metrics),
		r.either("log-stat.json", r.logStat, r.logStatOffline),
		r.either("records.jsonl", r.records, r.recordsOffline),
		r.either("snapshots.json", r.snapshots, r.snapshotsOffline),
	}

	for _, name := range r.names {
		if get := r.inspection(name); name == "disk.json" {
			parts = append(parts, r.either(name, get, r.diskOffline))
		} else {
			parts = append(parts, r.asked(name, get))
		}
	}

	if !r.local() {
		return parts
	}

	parts = append(parts, dump.Part{Name: "home/config.json", Get: r.homeConfig},
		dump.Part{Name: "node.log", Get: r.diagnostics})
	return append(parts, dump.Home(r.home)...)
}

// asked returns a part that only a node has.
func (r *report) asked(name string, get func(context.Context) ([]byte, error)) dump.Part {
	return dump.Part{Name: name, Get: func(ctx context.Context) ([]byte, error) {
		if r.down != nil {
			return nil, r.down
		}
		data, err := get(ctx)
		if err != nil && !errors.Is(err, dump.ErrCut) {
			err = r.nodeError(ctx, err)
		}
		return data, err
	}}
}

// either returns a part that comes from a node if one answers, and otherwise from the home.
func (r *report) either(name string, node, home func(context.Context) ([]byte, error)) dump.Part {
	if r.offline() {
		return dump.Part{Name: name, Get: home}
	}
	return r.asked(name, node)
}

// jsonOf returns v as indented JSON.
func jsonOf(v any) ([]byte, error) {
	var b bytes.Buffer
	err := printJSON(&b, v)
	return b.Bytes(), err
}

// message returns a function that gets a message as JSON.
func (r *report) message(get func(context.Context) (proto.Message, error)) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		m, err := get(ctx)
		if err != nil {
			return nil, err
		}
		return protojson.MarshalOptions{Multiline: true, UseProtoNames: true, EmitUnpopulated: true}.Marshal(m)
	}
}

func (r *report) status(ctx context.Context) ([]byte, error) {
	s, err := statusNow(ctx, r.c)
	if err != nil {
		return nil, err
	}
	return jsonOf(statusOf(s))
}

func (r *report) spec(ctx context.Context) ([]byte, error) {
	s, err := r.c.Spec(ctx)
	return []byte(s.GetText()), err
}

func (r *report) metrics(ctx context.Context) ([]byte, error) { return r.c.Metrics(ctx) }

// inspections returns the names of the parts that a node makes. If no node can be asked, they are
// those that every node makes, and those of the home's consensus.
func (r *report) inspections(ctx context.Context) (names []string) {
	if r.down == nil {
		if list, err := r.c.Inspect(ctx, ""); err == nil {
			return list.Parts
		}
	}

	for _, p := range inspect.Usual() {
		names = append(names, p.Name)
	}
	if conf, err := config.Load(r.home); r.local() && err == nil && conf.Consensus.Kind == comet.Name {
		for _, i := range (comet.Driver{}).Inspections() {
			names = append(names, i.Name)
		}
	}

	return names
}

func (r *report) inspection(name string) func(context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) {
		p, err := r.c.Inspect(ctx, name)
		if err == nil && p.LeftOut > 0 {
			err = fmt.Errorf("%w: the first %d bytes", dump.ErrCut, len(p.Data))
		}
		return p.GetData(), err
	}
}

func (r *report) diskOffline(ctx context.Context) ([]byte, error) {
	var b bytes.Buffer
	err := inspect.Disk(r.home).Make(ctx, &b)
	return b.Bytes(), err
}

func (r *report) logStat(ctx context.Context) ([]byte, error) {
	return r.message(func(ctx context.Context) (proto.Message, error) { return r.c.Retention(ctx) })(ctx)
}

func (r *report) logStatOffline(context.Context) ([]byte, error) {
	l, err := r.openLog(eventlog.Options{QuickOpen: true})
	if err != nil {
		return nil, err
	}
	defer l.Close()

	return jsonOf(logStat(l))
}

// records describes the newest records of the node's log.
func (r *report) records(ctx context.Context) ([]byte, error) {
	at, err := r.c.Retention(ctx)
	if err != nil {
		return nil, err
	}

	var lines dump.Records
	after := max(at.First, at.Last-min(at.Last, dump.MaxRecords)+1) - 1
	err = r.c.Events(ctx, client.EventsOptions{After: after, Once: true}, func(e client.Event) error {
		if e.Record == nil {
			return nil
		}
		return lines.Add(e.Record.Index, e.History, e.Record.Kind, e.Record.Message)
	})

	return lines.Bytes(), err
}

// recordsOffline describes the newest records of the home's log.
func (r *report) recordsOffline(ctx context.Context) ([]byte, error) {
	l, err := r.openLog(eventlog.Options{QuickOpen: true})
	if err != nil {
		return nil, err
	}
	defer l.Close()

	var lines dump.Records
	last := l.Durable()
	for e, err := range chain.Records(l.Cursor, max(l.First(), last-min(last, dump.MaxRecords)+1), chain.End) {
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return lines.Bytes(), fmt.Errorf("%w: %w", dump.ErrCut, err)
		}

		m, err := chain.DecodeRecord(e)
		if err == nil {
			err = lines.Add(e.Index, "", chain.KindName(e.Kind), m)
		}
		if err != nil {
			return lines.Bytes(), fmt.Errorf("%w: record %d: %w", dump.ErrCut, e.Index, err)
		}
	}

	return lines.Bytes(), nil
}

func (r *report) snapshots(ctx context.Context) ([]byte, error) {
	list, err := r.c.Snapshots(ctx)
	if err != nil {
		return nil, err
	}

	all := []snapshotJSON{}
	for _, s := range list {
		all = append(all, snapshotOf(s))
	}
	return jsonOf(all)
}

func (r *report) snapshotsOffline(context.Context) ([]byte, error) {
	list, err := offline.Snapshots(r.home)
	if err != nil {
		return nil, err
	}

	all := []snapshotJSON{}
	for _, e := range list {
		all = append(all, snapshotOf(retention.SnapshotProto(e)))
	}
	return jsonOf(all)
}

// homeConfig returns what a start in the home would run with, and where each value is from.
func (r *report) homeConfig(context.Context) ([]byte, error) {
	s, err := config.Resolve(r.home, config.Sources{Environ: os.Environ()})
	if err != nil {
		return nil, err
	}

	all := []settingJSON{}
	for _, k := range config.Keys() {
		o := s.Origin(k.Name)
		v := any(jsonValue(k, s.Config))
		if text, ok := k.Value(s.Config).(string); ok {
			v = inspect.RedactValue(k.Name, text)
		}
		all = append(all, settingJSON{k.Name, v, originJSON{o.Layer.String(), o.Name, o.Line, o.Column}})
	}
	return jsonOf(all)
}

// secretFiles returns the files outside of the home that its configuration names for secrets.
func (a *app) secretFiles() []string {
	c, err := config.Load(a.home)
	if err != nil || c.TLS.Key == "" {
		return nil
	}
	if filepath.IsAbs(c.TLS.Key) {
		return []string{c.TLS.Key}
	}
	return []string{filepath.Join(a.home, c.TLS.Key)}
}

// diagnostics returns the end of the node's diagnostics, if they go to a file.
func (r *report) diagnostics(context.Context) ([]byte, error) {
	if r.logFile != "" {
		return dump.Tail(r.logFile)
	}

	n, err := api.ReadNodeFile(r.home)
	if err != nil || !alive(n.PID) {
		return nil, dump.LeftOut("no node runs in the home, and --log names no file: attach its diagnostics " +
			"yourself, such as those of journalctl -u coppice")
	}

	own := fmt.Sprintf("/proc/%d/fd/2", n.PID)
	if info, err := os.Stat(own); err != nil || !info.Mode().IsRegular() {
		return nil, dump.LeftOut("the standard error of process %d is no file, or cannot be read from here: name the "+
			"file with --log, or attach the diagnostics yourself, such as those of journalctl -u coppice", n.PID)
	}
	return dump.Tail(own)
}
