package main

import (
	"io"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"gomq/internal/config"
)

// newLogger writes to w: lines for people on a terminal, JSON otherwise, or what
// format says (auto, console, json). The level can be changed while running.
func newLogger(w io.Writer, level, format string) (*zap.Logger, zap.AtomicLevel) {
	at := zap.NewAtomicLevel()
	setLevel(at, level)
	c := zap.NewProductionEncoderConfig()
	c.TimeKey, c.MessageKey = "time", "message"
	c.EncodeTime = zapcore.ISO8601TimeEncoder
	c.EncodeDuration = zapcore.StringDurationEncoder
	encoder := zapcore.NewJSONEncoder(c)
	if onConsole(w, format) {
		c.EncodeLevel = zapcore.CapitalLevelEncoder
		c.CallerKey, c.StacktraceKey = "", ""
		c.ConsoleSeparator = "  "
		c.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		encoder = zapcore.NewConsoleEncoder(c)
	}
	return zap.New(zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), at)), at
}

func setLevel(at zap.AtomicLevel, level string) {
	if l, err := zapcore.ParseLevel(level); err == nil {
		at.SetLevel(l)
	}
}

// onConsole reports whether people read what is written.
func onConsole(w io.Writer, format string) bool {
	switch format {
	case "console":
		return true
	case "json":
		return false
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// say logs what there is to say about the configuration.
func say(log *zap.Logger, problems []config.Problem) {
	for _, p := range problems {
		switch p.Level {
		case config.Note:
			log.Info(p.String())
		case config.Warning:
			log.Warn(p.String())
		}
	}
}
