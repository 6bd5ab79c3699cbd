package main

import (
	"io"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/npcnix/npcnix/config"
	"github.com/npcnix/npcnix/reconciler/redact"
)

// newLog returns a logger of one line a message: JSON for machines, or columns.
// What programs printed stands in some; secrets are left out.
func newLog(c config.Log, w io.Writer, secrets *redact.Redactor) logr.Logger {
	encoding := zap.NewProductionEncoderConfig()
	encoding.EncodeTime = zapcore.RFC3339TimeEncoder
	encoder := zapcore.NewJSONEncoder(encoding)
	if c.Format == "console" {
		encoder = zapcore.NewConsoleEncoder(encoding)
	}
	level := zap.InfoLevel
	if c.Level == "debug" {
		level = zap.DebugLevel
	}
	return zapr.NewLogger(zap.New(zapcore.NewCore(encoder, zapcore.AddSync(secrets.Writer(w)), level)))
}
