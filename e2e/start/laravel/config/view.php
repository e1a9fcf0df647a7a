<?php

return ['paths' => [resource_path('views')], 'compiled' => sys_get_temp_dir()];
