package inspect

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime/pprof"
	"slices"
	"text/tabwriter"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// CPUProfile is the name of the part with what the processors did for ProfileTime: a profile whose
// samples have the path of the child in the label ChildLabel. Names leaves it out, because making
// it takes that long.
const CPUProfile = "cpu.pb.gz"

// ProfileTime is how long the profile of the processors takes.
const ProfileTime = 5 * time.Second

// ChildLabel is the label that package supervisor puts on the goroutines of a child.
const ChildLabel = "supervisor.child"

// CPU returns the part CPUProfile.
func CPU() Part {
	return Part{CPUProfile, func(ctx context.Context, w io.Writer) error {
		if err := pprof.StartCPUProfile(w); err != nil {
			return err // another profile is being made
		}
		defer pprof.StopCPUProfile()

		select {
		case <-time.After(ProfileTime):
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}}
}

// Share is the processor time of a child in a profile.
type Share struct {
	Child string // its path; empty: goroutines outside of the tree, such as those of the runtime
	Time  time.Duration
	Part  float64 // of the processor time of the profile, 0 to 1
}

// errProfile: the bytes are no profile.
var errProfile = errors.New("not a profile of the processors")

// SharesOf returns the processor time of each child in a profile, the largest first.
func SharesOf(profile []byte) ([]Share, error) {
	z, err := gzip.NewReader(bytes.NewReader(profile))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProfile, err)
	}
	raw, err := io.ReadAll(io.LimitReader(z, 16*MaxBytes))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProfile, err)
	}

	// The message Profile of pprof's profile.proto: 2 are the samples, 6 is the table of strings.
	var samples [][]byte
	var texts []string
	if err := fields(raw, func(n protowire.Number, data []byte, _ uint64) error {
		switch n {
		case 2:
			samples = append(samples, data)
		case 6:
			texts = append(texts, string(data))
		}
		return nil
	}); err != nil {
		return nil, err
	}

	text := func(i uint64) string {
		if i >= uint64(len(texts)) {
			return ""
		}
		return texts[i]
	}
	by, total := map[string]time.Duration{}, time.Duration(0)

	for _, s := range samples {
		child, spent, err := sampleOf(s, text)
		if err != nil {
			return nil, err
		}
		by[child] += spent
		total += spent
	}

	list := make([]Share, 0, len(by))
	for child, spent := range by {
		list = append(list, Share{child, spent, float64(spent) / float64(max(total, 1))})
	}
	slices.SortFunc(list, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(a.Child, b.Child))
	})

	return list, nil
}

// sampleOf reads a message Sample: 2 are the values, of which the last is in nanoseconds, and 3 are
// the labels, each with the indexes of its key (1) and its text (2).
func sampleOf(raw []byte, text func(uint64) string) (child string, spent time.Duration, err error) {
	err = fields(raw, func(n protowire.Number, data []byte, v uint64) error {
		switch {
		case n == 2 && data == nil:
			spent = time.Duration(v)
		case n == 2:
			for len(data) > 0 {
				v, size := protowire.ConsumeVarint(data)
				if size < 0 {
					return errProfile
				}
				spent, data = time.Duration(v), data[size:]
			}
		case n == 3:
			var key, value uint64
			if err := fields(data, func(n protowire.Number, _ []byte, v uint64) error {
				switch n {
				case 1:
					key = v
				case 2:
					value = v
				}
				return nil
			}); err != nil {
				return err
			}
			if text(key) == ChildLabel {
				child = text(value)
			}
		}
		return nil
	})

	return child, spent, err
}

// fields calls each with the fields of a message: with the bytes of one that has a length, and
// otherwise with its number.
func fields(raw []byte, each func(n protowire.Number, data []byte, v uint64) error) error {
	for len(raw) > 0 {
		n, kind, size := protowire.ConsumeTag(raw)
		if size < 0 {
			return errProfile
		}
		raw = raw[size:]

		var data []byte
		var v uint64
		switch kind {
		case protowire.VarintType:
			v, size = protowire.ConsumeVarint(raw)
		case protowire.BytesType:
			data, size = protowire.ConsumeBytes(raw)
			if data == nil && size >= 0 {
				data = []byte{}
			}
		default:
			size = protowire.ConsumeFieldValue(n, kind, raw)
		}
		if size < 0 {
			return errProfile
		}
		if err := each(n, data, v); err != nil {
			return err
		}
		raw = raw[size:]
	}

	return nil
}

// WriteShares writes a table of shares.
func WriteShares(out io.Writer, list []Share) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "SHARE\tTIME\tCHILD")
	for _, s := range list {
		fmt.Fprintf(w, "%.1f %%\t%v\t%s\n", 100*s.Part, s.Time.Round(time.Millisecond),
			cmp.Or(s.Child, "(outside of the tree)"))
	}
	return w.Flush()
}
