package main

import (
	"os"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/coppice-go/coppice/node/config"
)

// Of diagnostics with the same text and below the level of an error, so many are written in a
// second, and then each hundredth: a storm of one line must not push out the others, nor fill a
// disk.
const (
	sampleFirst = 100
	sampleEach  = 100
)

// newDiagnostics writes to standard error, for people or as JSON. The level may be changed at any
// time.
func newDiagnostics(c config.DiagnosticsConfig) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(c.Level)
	if err != nil {
		return nil, level, err
	}

	conf := zap.NewProductionEncoderConfig()
	conf.EncodeTime = zapcore.ISO8601TimeEncoder
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
