package broker

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"go.uber.org/zap"

	"gomq/internal/broker/clients"
	"gomq/internal/broker/meta"
	"gomq/internal/config"
	"gomq/internal/protocol"
	"gomq/internal/remoting"
	"gomq/internal/store"
)

// faq ends the remarks that end so in the original.
const faq = "\nSee http://rocketmq.apache.org/docs/faq/ for further details."

// notYet ends the remarks about what this version cannot do.
const notYet = "not yet in this version of gomq"

// refuse is an error with the code and the remark that the peer is told.
func refuse(code int32, format string, args ...any) error {
	return &protocol.Error{Code: code, Remark: fmt.Sprintf(format, args...)}
}

// busy is SYSTEM_BUSY with the original's text and the cause that was measured.
func busy(text, cause string) error {
	return &protocol.Error{Code: protocol.SystemBusy, Remark: text + " (" + cause + ")"}
}

// tableError is the error of a change to a table: what the peer asked for is
// wrong, or the file could not be written, which the log is to hear of.
func tableError(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return err
	}
	return refuse(protocol.SystemError, "%s", err)
}

// statusOf is the only place that says which response code an error of the rooms
// below is. known is false for an error that nobody foresaw: it is SYSTEM_ERROR
// and worth a line in the log.
func statusOf(err error) (code int32, remark string, known bool) {
	var said *protocol.Error
	var refused *store.RefusedError
	var update *config.Refused
	switch {
	case errors.As(err, &said):
		return said.Code, said.Remark, true
	case errors.As(err, &refused) && refused.Unknown:
		return protocol.SystemError, refused.Error(), true
	case errors.As(err, &refused):
		return protocol.ServiceNotAvailable, unavailable(refused), true
	case errors.Is(err, store.ErrClosed):
		return protocol.ServiceNotAvailable, unavailable(err), true
	case errors.Is(err, store.ErrQueueGone):
		return protocol.TopicNotExist, err.Error() + faq, true
	case errors.Is(err, store.ErrTooLarge):
		return protocol.MessageIllegal, "the message is illegal: " + err.Error(), true
	case errors.As(err, &update) && update.Forbidden:
		return protocol.NoPermission, "Can not update config in black list. (" + update.Error() + ")", true
	case errors.As(err, &update), errors.Is(err, meta.ErrTooManyOffsets), errors.Is(err, meta.ErrNegativeQueue),
		errors.Is(err, clients.ErrTooManyGroups):
		return protocol.SystemError, err.Error(), true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return protocol.SystemError, err.Error(), true
	}
	return protocol.SystemError, err.Error(), false
}

// unavailable is the original's guess with the cause behind it.
func unavailable(cause error) string {
	return "service not available now. It may be caused by one of the following reasons: the broker's disk is full, messages are put to the slave, message store has been shut down, etc. (" + cause.Error() + ")"
}

// errorResponse is the answer to a request that ended in err.
func errorResponse(log *zap.Logger, err error) remoting.Response {
	code, remark, known := statusOf(err)
	if !known {
		log.Error("a request failed", zap.Error(err))
	}
	return remoting.Response{Code: code, Remark: remark}
}
