//go:build cgo && linux && (amd64 || arm64)

package ffi

/*
#include "blocktier.h"
#cgo noescape blocktier_check_start
#cgo nocallback blocktier_check_start
#cgo noescape blocktier_check_free
#cgo nocallback blocktier_check_free
#cgo noescape blocktier_check_poll
#cgo nocallback blocktier_check_poll
#cgo noescape blocktier_check_cancel
#cgo nocallback blocktier_check_cancel
#cgo noescape blocktier_check_result
#cgo nocallback blocktier_check_result
#cgo noescape blocktier_check_item
#cgo nocallback blocktier_check_item
*/
import "C"

import "unsafe"

// Check is a check or repair of a durable map's directories, on a thread of the library.
type Check struct{ handle *C.blocktier_check_t }

// StartCheck begins one. dirs are directories, one a line.
func StartCheck(dirs, name string, memoryBytes uint64, flags uint32) (Check, error) {
	if err := Available(); err != nil {
		return Check{}, err
	}
	var failure C.blocktier_error_t
	var handle *C.blocktier_check_t
	status := C.blocktier_check_start(textOf(dirs), C.size_t(len(dirs)), textOf(name),
		C.size_t(len(name)), C.uint64_t(memoryBytes), C.uint32_t(flags), &handle, &failure)
	return Check{handle}, check(status, &failure)
}

// Free cancels the job, waits for it and frees it.
func (c Check) Free() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_check_free(c.handle, &failure), &failure)
}

// Poll tells how far the job is.
func (c Check) Poll() (done, total uint64, finished bool, err error) {
	var failure C.blocktier_error_t
	var now C.blocktier_check_progress_t
	err = check(C.blocktier_check_poll(c.handle, &now, &failure), &failure)
	return uint64(now.done_bytes), uint64(now.total_bytes), now.finished == 1, err
}

// Cancel asks the job to end early.
func (c Check) Cancel() error {
	var failure C.blocktier_error_t
	return check(C.blocktier_check_cancel(c.handle, &failure), &failure)
}

// Result is what came of the job once it has ended; its error is told once.
func (c Check) Result() (CheckResult, error) {
	var failure C.blocktier_error_t
	var r C.blocktier_check_result_t
	err := check(C.blocktier_check_result(c.handle, &r, &failure), &failure)
	return CheckResult{
		Directories: uint64(r.directories),
		Segments:    uint64(r.segments),
		Summaries:   uint64(r.summaries),
		Records:     uint64(r.records),
		Live:        uint64(r.live),
		Dead:        uint64(r.dead),
		LiveBytes:   uint64(r.live_bytes),
		DeadBytes:   uint64(r.dead_bytes),
		ReadBytes:   uint64(r.read_bytes),
		Findings:    int(r.findings),
		Steps:       int(r.steps),
		Losses:      int(r.losses),
		StepsDone:   int(r.steps_done),
		Worst:       uint32(r.worst),
		Flags:       uint32(r.flags),
	}, err
}

// Item is one item of a list; NotFound behind the end.
func (c Check) Item(list uint32, index int) (CheckItem, error) {
	path, text := make([]byte, 512), make([]byte, 1024)
	for {
		var failure C.blocktier_error_t
		var item C.blocktier_check_item_t
		status := C.blocktier_check_item(c.handle, C.uint32_t(list), C.size_t(index), &item,
			(*C.char)(unsafe.Pointer(unsafe.SliceData(path))), C.size_t(len(path)),
			(*C.char)(unsafe.Pointer(unsafe.SliceData(text))), C.size_t(len(text)), &failure)
		err := check(status, &failure)
		if err == error(BufferTooSmall) {
			path, text = make([]byte, item.path_length), make([]byte, item.text_length)
			continue
		}
		if err != nil {
			return CheckItem{}, err
		}
		return CheckItem{
			Path:    string(path[:item.path_length]),
			Text:    string(text[:item.text_length]),
			Offset:  uint64(item.offset),
			Length:  uint64(item.length),
			Keys:    uint64(item.keys),
			Kind:    uint32(item.kind),
			Meaning: uint32(item.meaning),
		}, nil
	}
}
