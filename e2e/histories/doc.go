// Package histories holds the gateway against itself: the same random script, performed under
// random configurations, has to give the same history at clients and at the backend. Where the
// contract lets histories differ, the table differences says so.
package histories
