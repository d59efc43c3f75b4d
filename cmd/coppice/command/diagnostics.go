package command

import (
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/coppice-go/coppice/node/config"
)

// sampleFirst and sampleEach limit repeated diagnostics below the error level. In each second, the
// first sampleFirst lines with the same text are written, and then every sampleEach-th line. One
// repeated line must not push out the others or fill the disk.
const (
	sampleFirst = 100
	sampleEach  = 100
)

// newDiagnostics returns a logger that writes to standard error, for people or as JSON, and its
// level, which may be changed at any time.
func newDiagnostics(c config.DiagnosticsConfig) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(c.Level)
	if err != nil {
		return nil, level, err
	}

	conf := zap.NewProductionEncoderConfig()
	conf.EncodeTime = zapcore.ISO8601TimeEncoder
	conf.EncodeDuration = zapcore.StringDurationEncoder // a number would not tell its unit
	enc := zapcore.NewConsoleEncoder(conf)
	if c.Format == "json" {
		enc = zapcore.NewJSONEncoder(conf)
	}

	out := zapcore.Lock(os.Stderr)
	errorsOnly := zap.LevelEnablerFunc(func(l zapcore.Level) bool { return l >= zap.ErrorLevel && level.Enabled(l) })
	below := zap.LevelEnablerFunc(func(l zapcore.Level) bool { return l < zap.ErrorLevel && level.Enabled(l) })
	return zap.New(zapcore.NewTee(
		zapcore.NewCore(enc, out, errorsOnly),
		zapcore.NewSamplerWithOptions(zapcore.NewCore(enc.Clone(), out, below), time.Second, sampleFirst, sampleEach),
	)), level, nil
}
