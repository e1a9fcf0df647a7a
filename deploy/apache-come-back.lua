-- What a client of a stream gets while the gateway is down: a stream that only says when to
-- come back, after 1 to 5 s, at random, so that those who were cut off together do not come
-- back together. apache.conf expects this file as /etc/apache2/come-back.lua.

function handle(r)
    if r.status == 500 and not r.the_request:find("^GET /events/") then
        return 500
    end
    math.randomseed(r:clock())
    r.status = 200
    r.content_type = "text/event-stream"
    r.err_headers_out["Cache-Control"] = "no-cache"
    r:puts("retry: ", math.random(1000, 4999), "\n\n")
    return apache2.OK
end
